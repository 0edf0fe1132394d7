package images

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/client/events"
)

// CollectorConfig is what a Collector needs.
type CollectorConfig struct {
	Runtime runtimeapi.RuntimeServiceClient
	Images  runtimeapi.ImageServiceClient
	Events  *events.Recorder
	// About is the node, for events.
	About runtime.Object
	// High and Low are percentages of the images' disk: above High images are removed until Low is reached.
	High, Low int
	// MinAge keeps images that were not seen for longer; MaxAge removes what has been unused for longer, 0 never.
	MinAge, MaxAge time.Duration
	Now            func() time.Time
	Logger         *slog.Logger
	// Records forget the images that are gone; nil is none.
	Records *Records
	Metrics *Metrics
}

// Collector removes images that no container uses.
type Collector struct {
	cfg CollectorConfig
	mu  sync.Mutex
	// seen tells since when each image is known and when it was last in use.
	seen map[string]*record
}

type record struct {
	first, used time.Time
}

// NewCollector returns a collector.
func NewCollector(cfg CollectorConfig) *Collector {
	return &Collector{cfg: cfg, seen: map[string]*record{}}
}

// Collect removes images if their disk is too full.
func (c *Collector) Collect(ctx context.Context) error {
	unused, err := c.detect(ctx)
	if err != nil {
		return err
	}
	now := c.cfg.Now()
	if c.cfg.MaxAge > 0 {
		for _, image := range unused {
			if r := c.record(image.Id); now.Sub(r.lastUse()) > c.cfg.MaxAge {
				if _, err := c.remove(ctx, image, forAge); err != nil {
					return err
				}
			}
		}
	}
	capacity, available, err := c.disk(ctx)
	if err != nil {
		return err
	}
	if capacity == 0 {
		return fmt.Errorf("invalid capacity 0 on image filesystem")
	}
	percent := 100 - int(available*100/capacity)
	if percent < c.cfg.High {
		return nil
	}
	want := capacity*uint64(100-c.cfg.Low)/100 - available
	freed, err := c.free(ctx, unused, want, now)
	if err != nil {
		return err
	}
	if freed < want {
		err := fmt.Errorf("Failed to garbage collect required amount of images. Attempted to free %d bytes, but only found %d bytes eligible to free.", want, freed)
		c.cfg.Events.Event(c.cfg.About, corev1.EventTypeWarning, "FreeDiskSpaceFailed", err.Error())
		return err
	}
	return nil
}

// DeleteUnused removes all images that no container uses; for a node under disk pressure.
func (c *Collector) DeleteUnused(ctx context.Context) error {
	unused, err := c.detect(ctx)
	if err != nil {
		return err
	}
	_, err = c.free(ctx, unused, ^uint64(0), c.cfg.Now())
	return err
}

func (r *record) lastUse() time.Time {
	if r.used.IsZero() {
		return r.first
	}
	return r.used
}

func (c *Collector) record(id string) *record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[id]
}

// detect brings the records up to date and returns the images that may go, the least recently used first.
func (c *Collector) detect(ctx context.Context) ([]*runtimeapi.Image, error) {
	began := c.cfg.Now()
	images, err := c.cfg.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	// All containers count, also those that are not this kubelet's.
	containers, err := c.cfg.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	inUse := map[string]bool{}
	for _, ctr := range containers.Containers {
		inUse[ctr.ImageRef], inUse[ctr.ImageId], inUse[ctr.GetImage().GetImage()] = true, true, true
	}
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	present := map[string]bool{}
	var unused []*runtimeapi.Image
	for _, image := range images.Images {
		present[image.Id] = true
		r := c.seen[image.Id]
		if r == nil {
			r = &record{first: now}
			c.seen[image.Id] = r
		}
		used := inUse[image.Id] || slices.ContainsFunc(image.RepoTags, func(t string) bool { return inUse[t] }) ||
			slices.ContainsFunc(image.RepoDigests, func(d string) bool { return inUse[d] })
		if used {
			r.used = now
			continue
		}
		if !image.Pinned {
			unused = append(unused, image)
		}
	}
	for id := range c.seen {
		if !present[id] {
			delete(c.seen, id)
		}
	}
	if c.cfg.Records != nil {
		if err := c.cfg.Records.prune(slices.Collect(maps.Keys(present)), began); err != nil {
			c.cfg.Logger.Warn("records of pulled images not tidied", "error", err)
		}
	}
	slices.SortFunc(unused, func(a, b *runtimeapi.Image) int {
		ra, rb := c.seen[a.Id], c.seen[b.Id]
		return cmp.Or(ra.used.Compare(rb.used), ra.first.Compare(rb.first))
	})
	return unused, nil
}

func (c *Collector) free(ctx context.Context, unused []*runtimeapi.Image, want uint64, now time.Time) (freed uint64, err error) {
	for _, image := range unused {
		if freed >= want {
			break
		}
		if r := c.record(image.Id); r == nil || now.Sub(r.first) < c.cfg.MinAge {
			continue
		}
		n, err := c.remove(ctx, image, forSpace)
		if err != nil {
			return freed, err
		}
		freed += n
	}
	return freed, nil
}

func (c *Collector) remove(ctx context.Context, image *runtimeapi.Image, reason string) (uint64, error) {
	c.cfg.Logger.Info("removing an unused image", "image", image.Id, "tags", image.RepoTags, "bytes", image.Size)
	if _, err := c.cfg.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: image.Id}}); err != nil {
		return 0, fmt.Errorf("remove image %s: %w", image.Id, err)
	}
	c.cfg.Metrics.gone(reason)
	return image.Size, nil
}

// disk tells how large the images' file system is and what's free.
func (c *Collector) disk(ctx context.Context) (capacity, available uint64, err error) {
	path, err := c.Mountpoint(ctx)
	if err != nil {
		return 0, 0, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("look at the images' file system %s: %w", path, err)
	}
	return st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize), nil
}

// Mountpoint returns where the runtime keeps images.
func (c *Collector) Mountpoint(ctx context.Context) (string, error) {
	info, err := c.cfg.Images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		return "", fmt.Errorf("ask for the images' file system: %w", err)
	}
	for _, fs := range info.ImageFilesystems {
		if p := fs.GetFsId().GetMountpoint(); p != "" {
			return p, nil
		}
	}
	return "", fmt.Errorf("the runtime names no file system of images")
}
