package volumes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// emptyDir is a directory that lives as long as its pod: on disk, in memory, or in huge pages.
type emptyDir struct{}

func (emptyDir) Name() string            { return "kubernetes.io/empty-dir" }
func (emptyDir) Supports(s *Source) bool { return s.Volume.EmptyDir != nil }
func (emptyDir) InMemory() bool          { return false }

func (emptyDir) Mount(_ context.Context, r *Request) (Mounted, error) {
	source := r.Volume.EmptyDir
	if err := os.MkdirAll(r.Dir, dirMode); err != nil {
		return Mounted{}, fmt.Errorf("make directory: %w", err)
	}
	mounted, err := IsMountPoint(r.Dir)
	if err != nil {
		return Mounted{}, err
	}
	if mounted || source.Medium == corev1.StorageMediumDefault && isReady(r) {
		return Mounted{Path: r.Dir}, nil // it's in use: the pod may have changed it
	}
	if err := mountMedium(source, r); err != nil {
		return Mounted{}, err
	}
	mode := os.FileMode(0o777)
	if source.Medium == corev1.StorageMediumMemory {
		mode |= os.ModeSticky // as a fresh file system in memory has it
	}
	if err := os.Chmod(r.Dir, mode); err != nil {
		return Mounted{}, fmt.Errorf("open directory to all: %w", err)
	}
	if err := ChownGroup(r.Dir, r.FSGroup, nil, false); err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: r.Dir}, markReady(r)
}

// readyFile tells, outside the volume, that it was handed over to the pod.
func readyFile(r *Request) string {
	podDir := filepath.Dir(filepath.Dir(filepath.Dir(r.Dir)))
	return filepath.Join(podDir, "plugins", filepath.Base(filepath.Dir(r.Dir)), filepath.Base(r.Dir), "ready")
}

func isReady(r *Request) bool {
	_, err := os.Stat(readyFile(r))
	return err == nil
}

func markReady(r *Request) error {
	path := readyFile(r)
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return fmt.Errorf("note that the volume is ready: %w", err)
	}
	if err := os.WriteFile(path, nil, 0o640); err != nil {
		return fmt.Errorf("note that the volume is ready: %w", err)
	}
	return nil
}

func mountMedium(source *corev1.EmptyDirVolumeSource, r *Request) error {
	switch medium := source.Medium; {
	case medium == corev1.StorageMediumDefault:
		return nil
	case medium == corev1.StorageMediumMemory:
		options := "mode=1777"
		if n := memorySize(source, r); n > 0 {
			options += fmt.Sprintf(",size=%d", n)
		}
		return mountTmpfs(r.Dir, options)
	case medium == corev1.StorageMediumHugePages, strings.HasPrefix(string(medium), string(corev1.StorageMediumHugePagesPrefix)):
		size, err := pageSize(medium, r.Pod)
		if err != nil {
			return err
		}
		if err := unix.Mount("nodev", r.Dir, "hugetlbfs", 0, fmt.Sprintf("pagesize=%dM", size.Value()>>20)); err != nil {
			return fmt.Errorf("mount huge pages at %s: %w", r.Dir, err)
		}
		return nil
	default:
		return fmt.Errorf("unknown storage medium %q", medium)
	}
}

// memorySize is the least of the volume's limit and what the node can give at all; a pod's memory limit bounds it as well, as its pages count there.
func memorySize(source *corev1.EmptyDirVolumeSource, r *Request) int64 {
	allocatable := r.Host.Node(r.Pod).Allocatable[corev1.ResourceMemory]
	size := allocatable.Value()
	if limit := podMemoryLimit(r.Pod); limit > 0 && (size == 0 || limit < size) {
		size = limit
	}
	if source.SizeLimit != nil && source.SizeLimit.Value() > 0 && (size == 0 || source.SizeLimit.Value() < size) {
		size = source.SizeLimit.Value()
	}
	return size
}

// podMemoryLimit is the sum of all containers' limits, 0 if one has none.
func podMemoryLimit(pod *corev1.Pod) int64 {
	if pod.Spec.Resources != nil && !pod.Spec.Resources.Limits.Memory().IsZero() {
		return pod.Spec.Resources.Limits.Memory().Value()
	}
	var sum int64
	for i := range pod.Spec.Containers {
		limit := pod.Spec.Containers[i].Resources.Limits.Memory()
		if limit.IsZero() {
			return 0
		}
		sum += limit.Value()
	}
	return sum
}

// pageSize is the one of the medium's name, or the only one that the pod asks for.
func pageSize(medium corev1.StorageMedium, pod *corev1.Pod) (resource.Quantity, error) {
	if name, ok := strings.CutPrefix(string(medium), string(corev1.StorageMediumHugePagesPrefix)); ok {
		return resource.ParseQuantity(name)
	}
	var found []resource.Quantity
	for i := range pod.Spec.Containers {
		for name := range pod.Spec.Containers[i].Resources.Requests {
			if size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
				q, err := resource.ParseQuantity(size)
				if err != nil {
					return q, fmt.Errorf("huge page size %q: %w", size, err)
				}
				if len(found) > 0 && found[0].Cmp(q) != 0 {
					return q, fmt.Errorf("medium %q can only be used if a single page size is requested", medium)
				}
				found = append(found, q)
			}
		}
	}
	if len(found) == 0 {
		return resource.Quantity{}, fmt.Errorf("medium %q needs a container that requests huge pages", medium)
	}
	return found[0], nil
}

func (emptyDir) Unmount(_ context.Context, dir string) error { return Unmount(dir) }
