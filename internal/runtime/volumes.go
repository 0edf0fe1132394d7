package runtime

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper"
	"clipper.dev/clipper/internal/keeper/wire"
)

// imageMounts are the images that a container mounts as volumes.
type imageMounts struct {
	paths  map[string]string // where each lies, by its path in the container
	mounts []wire.Volume
	layers []string
}

// prepareImageMounts finds the images of a container's image volumes.
func (rt *Runtime) prepareImageMounts(_ context.Context, id string, config *runtimeapi.ContainerConfig) (*imageMounts, error) {
	found := &imageMounts{paths: map[string]string{}}
	for i, m := range config.GetMounts() {
		name := m.GetImage().GetImage()
		if name == "" {
			continue
		}
		img, err := rt.images.Get(name)
		if err != nil {
			return nil, fmt.Errorf("mount image %q: %w", name, err)
		}
		for _, part := range strings.Split(m.GetImageSubPath(), "/") {
			if part == ".." {
				return nil, invalid("sub path %q of image %q leaves the image", m.GetImageSubPath(), name)
			}
		}
		if sub := m.GetImageSubPath(); sub != "" {
			if err := rt.images.Tree(img.Lower()).CheckFolder(sub); err != nil {
				return nil, fmt.Errorf("failed to ensure image subpath %q of image %q: %w", sub, name, err)
			}
		}
		volume := wire.Volume{
			Name:    strconv.Itoa(i),
			Base:    rt.images.LayerDir(),
			Lower:   img.Lower(),
			SubPath: strings.Trim(filepath.Clean("/"+m.GetImageSubPath()), "/"),
		}
		found.paths[m.GetContainerPath()] = keeper.VolumePath(rt.keeperOptions().RunDir, id, volume.Name)
		found.mounts = append(found.mounts, volume)
		found.layers = append(found.layers, volume.Lower...)
	}
	return found, nil
}
