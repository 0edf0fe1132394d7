package volumes

import (
	"context"
)

// secret shows the entries of a Secret as files, in memory.
type secret struct{}

func (secret) Name() string            { return "kubernetes.io/secret" }
func (secret) Supports(s *Source) bool { return s.Volume.Secret != nil }
func (secret) InMemory() bool          { return true }

func (secret) Mount(ctx context.Context, r *Request) (Mounted, error) {
	source := r.Volume.Secret
	mode, err := modeOf(source.DefaultMode)
	if err != nil {
		return Mounted{}, err
	}
	optional := isTrue(source.Optional)
	s, err := r.Host.Secret(ctx, r.Pod.Namespace, source.SecretName)
	if s, err = orEmpty(s, err, optional); err != nil {
		return Mounted{}, err
	}
	files, err := secretFiles(s, source.Items, mode, optional)
	if err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: r.Dir, ReadOnly: true, Managed: true}, write(r, files)
}

func (secret) Unmount(context.Context, string) error { return nil }
