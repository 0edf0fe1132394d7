package volumes

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/downward"
)

// downwardAPI shows fields of the pod as files.
type downwardAPI struct{}

func (downwardAPI) Name() string            { return "kubernetes.io/downward-api" }
func (downwardAPI) Supports(s *Source) bool { return s.Volume.DownwardAPI != nil }
func (downwardAPI) InMemory() bool          { return true }

func (downwardAPI) Mount(_ context.Context, r *Request) (Mounted, error) {
	mode, err := modeOf(r.Volume.DownwardAPI.DefaultMode)
	if err != nil {
		return Mounted{}, err
	}
	files, err := downwardFiles(r, r.Volume.DownwardAPI.Items, mode)
	if err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: r.Dir, ReadOnly: true, Managed: true}, write(r, files)
}

func downwardFiles(r *Request, items []corev1.DownwardAPIVolumeFile, mode int32) (map[string]file, error) {
	node := r.Host.Node(r.Pod)
	out := map[string]file{}
	var errs []error
	for i := range items {
		item := &items[i]
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = downward.Field(r.Pod, item.FieldRef.FieldPath, node)
		case item.ResourceFieldRef != nil:
			value, err = downward.Resource(r.Pod, nil, item.ResourceFieldRef, node)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f := file{data: []byte(value), mode: mode}
		if item.Mode != nil {
			f.mode = *item.Mode
		}
		out[item.Path] = f
	}
	return out, errors.Join(errs...)
}

func (downwardAPI) Unmount(context.Context, string) error { return nil }
