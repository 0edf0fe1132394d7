package volumes

import (
	"context"
)

// configMap shows the entries of a ConfigMap as files.
type configMap struct{}

func (configMap) Name() string            { return "kubernetes.io/configmap" }
func (configMap) Supports(s *Source) bool { return s.Volume.ConfigMap != nil }
func (configMap) InMemory() bool          { return false }

func (configMap) Mount(ctx context.Context, r *Request) (Mounted, error) {
	source := r.Volume.ConfigMap
	mode, err := modeOf(source.DefaultMode)
	if err != nil {
		return Mounted{}, err
	}
	optional := isTrue(source.Optional)
	cm, err := r.Host.ConfigMap(ctx, r.Pod.Namespace, source.Name)
	if cm, err = orEmpty(cm, err, optional); err != nil {
		return Mounted{}, err
	}
	files, err := configMapFiles(cm, source.Items, mode, optional)
	if err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: r.Dir, ReadOnly: true, Managed: true}, write(r, files)
}

func (configMap) Unmount(context.Context, string) error { return nil }
