package volumes

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// write makes a volume whose contents are the kubelet's hold the files given.
func write(r *Request, files map[string]file) error {
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(r.Dir, 0o777); err != nil {
		return fmt.Errorf("open directory to all: %w", err)
	}
	if err := nestedMountPoints(r); err != nil {
		return err
	}
	own := func(string) error { return ChownGroup(r.Dir, r.FSGroup, nil, true) } // read-only: containers never write there
	if r.FSGroup == nil {
		own = func(string) error { return nil }
	}
	_, err := writeAtomic(r.Dir, files, own)
	return err
}

// nestedMountPoints makes the directories that a container mounts other volumes at within this one, as the runtime couldn't in a volume that's read-only.
func nestedMountPoints(r *Request) error {
	for _, list := range [][]corev1.Container{r.Pod.Spec.InitContainers, r.Pod.Spec.Containers} {
		for i := range list {
			for _, outer := range list[i].VolumeMounts {
				if outer.Name != r.Volume.Name || outer.SubPath != "" || outer.SubPathExpr != "" {
					continue
				}
				if err := nestedIn(r, &list[i], outer.MountPath); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func nestedIn(r *Request, c *corev1.Container, mountPath string) error {
	prefix := strings.TrimSuffix(mountPath, "/") + "/"
	var inner []string
	for _, m := range c.VolumeMounts {
		if rel, ok := strings.CutPrefix(filepath.Clean(m.MountPath), prefix); ok && m.Name != r.Volume.Name {
			inner = append(inner, rel)
		}
	}
	slices.Sort(inner)
	for _, rel := range inner {
		if strings.HasPrefix(rel, "..") {
			return fmt.Errorf("invalid nested mount path %s", rel)
		}
		if err := os.MkdirAll(filepath.Join(r.Dir, rel), 0o755); err != nil {
			return fmt.Errorf("make a nested mount point: %w", err)
		}
	}
	return nil
}

// choose turns the data of an object into files: all keys, or those that the items name.
func choose(data map[string][]byte, items []corev1.KeyToPath, mode int32, optional bool, missing string) (map[string]file, error) {
	out := map[string]file{}
	if len(items) == 0 {
		for key, value := range data {
			out[key] = file{data: value, mode: mode}
		}
		return out, nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return nil, fmt.Errorf("%s: %s", missing, item.Key)
		}
		f := file{data: value, mode: mode}
		if item.Mode != nil {
			f.mode = *item.Mode
		}
		out[item.Path] = f
	}
	return out, nil
}

func configMapFiles(cm *corev1.ConfigMap, items []corev1.KeyToPath, mode int32, optional bool) (map[string]file, error) {
	data := map[string][]byte{}
	maps.Copy(data, cm.BinaryData)
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	return choose(data, items, mode, optional, "configmap references non-existent config key")
}

func secretFiles(s *corev1.Secret, items []corev1.KeyToPath, mode int32, optional bool) (map[string]file, error) {
	return choose(s.Data, items, mode, optional, "references non-existent secret key")
}

// orEmpty returns an empty object in place of an optional one that isn't there.
func orEmpty[T any](obj *T, err error, optional bool) (*T, error) {
	if apierrors.IsNotFound(err) && optional {
		return new(T), nil
	}
	return obj, err
}

func isTrue(b *bool) bool { return b != nil && *b }

func modeOf(m *int32) (int32, error) {
	if m == nil {
		return 0, errors.New("no defaultMode used, not even the default value for it")
	}
	return *m, nil
}
