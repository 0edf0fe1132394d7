package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// A placedFile is a file of a volume and where it comes from.
type placedFile struct{ path, source string }

func (f placedFile) String() string {
	if f.source == "" {
		return fmt.Sprintf("%q", f.path)
	}
	return fmt.Sprintf("%q (%s)", f.path, f.source)
}

// overlaps warns of files of one volume that hide one another.
func (w *warner) overlaps(volumes []corev1.Volume) {
	for i := range volumes {
		v := &volumes[i]
		if v.ConfigMap != nil {
			w.overlapping(v.Name, fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name), keyFiles(v.ConfigMap.Items, ""))
		}
		if v.Secret != nil {
			w.overlapping(v.Name, fmt.Sprintf("Secret %q", v.Secret.SecretName), keyFiles(v.Secret.Items, ""))
		}
		if v.DownwardAPI != nil {
			w.overlapping(v.Name, "DownwardAPI", fieldFiles(v.DownwardAPI.Items, ""))
		}
		if v.Projected == nil {
			continue
		}
		var files []placedFile
		for _, s := range v.Projected.Sources {
			if s == (corev1.VolumeProjection{}) {
				w.texts = append(w.texts, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			}
			files = append(files, projectedFiles(&s)...)
		}
		w.overlapping(v.Name, "Projected", files)
	}
}

func (w *warner) overlapping(volume, kind string, files []placedFile) {
	root := &folder{}
	for i := range files {
		files[i].path = strings.TrimRight(files[i].path, "/")
		if files[i].path == "" {
			continue
		}
		for _, before := range root.place(files[i].path, i) {
			if w.full() {
				return
			}
			w.texts = append(w.texts, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", volume, kind, files[i], files[before]))
		}
	}
}

// A folder is a place in the tree of a volume's files. Files are numbers.
type folder struct {
	inside map[string]*folder
	here   []int // the files that are this place
	below  []int // these, and those further down
}

// place adds a file and returns, in order, those before it that are above, below or at the same place; not many more than are shown.
func (f *folder) place(path string, file int) (overlapping []int) {
	for part := range strings.SplitSeq(path, "/") {
		next := f.inside[part]
		if next == nil {
			if f.inside == nil {
				f.inside = map[string]*folder{}
			}
			next = &folder{}
			f.inside[part] = next
		}
		if len(overlapping) < maxPairs {
			overlapping = append(overlapping, f.here...)
		}
		f = next
		if len(f.below) < maxPairs {
			f.below = append(f.below, file)
		}
	}
	before, _ := slices.BinarySearch(f.below, file)
	overlapping = append(overlapping, f.below[:before]...)
	if len(f.here) < maxPairs {
		f.here = append(f.here, file)
	}
	slices.Sort(overlapping)
	return overlapping
}

func keyFiles(items []corev1.KeyToPath, source string) (files []placedFile) {
	for _, i := range items {
		files = append(files, placedFile{i.Path, source})
	}
	return files
}

func fieldFiles(items []corev1.DownwardAPIVolumeFile, source string) (files []placedFile) {
	for _, i := range items {
		files = append(files, placedFile{i.Path, source})
	}
	return files
}

func projectedFiles(s *corev1.VolumeProjection) []placedFile {
	switch {
	case s.ConfigMap != nil:
		return keyFiles(s.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name))
	case s.Secret != nil:
		return keyFiles(s.Secret.Items, fmt.Sprintf("Secret %q", s.Secret.Name))
	case s.DownwardAPI != nil:
		return fieldFiles(s.DownwardAPI.Items, "DownwardAPI")
	case s.ServiceAccountToken != nil:
		return []placedFile{{s.ServiceAccountToken.Path, "ServiceAccountToken"}}
	}
	return nil
}
