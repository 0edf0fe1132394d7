package volumes

import "context"

// image is the contents of an image, which the runtime mounts.
type image struct{}

func (image) Name() string            { return "kubernetes.io/image" }
func (image) Supports(s *Source) bool { return s.Volume.Image != nil }
func (image) InMemory() bool          { return false }

func (image) Mount(_ context.Context, r *Request) (Mounted, error) {
	return Mounted{Image: r.Volume.Image, ReadOnly: true}, nil
}

func (image) Unmount(context.Context, string) error { return nil }
