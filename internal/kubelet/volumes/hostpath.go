package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hostPath is a file or directory of the node, by the pod's own word or that of a persistent volume.
type hostPath struct{}

func (hostPath) Name() string { return "kubernetes.io/host-path" }

func (hostPath) Supports(s *Source) bool {
	return s.Volume.HostPath != nil || s.PV != nil && s.PV.Spec.HostPath != nil
}

func (hostPath) InMemory() bool { return false }

func (hostPath) Mount(_ context.Context, r *Request) (Mounted, error) {
	source := r.Volume.HostPath
	if source == nil {
		source = r.PV.Spec.HostPath
	}
	if slices.Contains(strings.Split(source.Path, "/"), "..") {
		return Mounted{}, fmt.Errorf("invalid HostPath `%s`: must not contain '..'", source.Path)
	}
	kind := corev1.HostPathUnset
	if source.Type != nil {
		kind = *source.Type
	}
	if err := checkHostPath(source.Path, kind); err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: source.Path}, nil
}

func checkHostPath(path string, kind corev1.HostPathType) error {
	info, err := os.Stat(path)
	exists := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	var want fs.FileMode
	name := ""
	switch kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if !exists {
			return makeDir(path)
		}
		want, name = fs.ModeDir, "directory"
	case corev1.HostPathFileOrCreate:
		if !exists {
			return makeFile(path)
		}
		name = "file"
	case corev1.HostPathDirectory:
		want, name = fs.ModeDir, "directory"
	case corev1.HostPathFile:
		name = "file"
	case corev1.HostPathSocket:
		want, name = fs.ModeSocket, "socket file"
	case corev1.HostPathCharDev:
		want, name = fs.ModeDevice|fs.ModeCharDevice, "character device"
	case corev1.HostPathBlockDev:
		want, name = fs.ModeDevice, "block device"
	default:
		return fmt.Errorf("%s is an invalid volume type", kind)
	}
	if !exists || info.Mode().Type() != want {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", path, name)
	}
	return nil
}

func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make hostPath directory: %w", err)
	}
	return nil
}

func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("make hostPath file: %w", err)
	}
	return f.Close()
}

func (hostPath) Unmount(context.Context, string) error { return nil }
