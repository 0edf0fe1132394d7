package core

import (
	"fmt"
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
	for i := range files {
		files[i].path = strings.TrimRight(files[i].path, "/")
		for _, before := range files[:i] {
			if files[i].path == "" || before.path == "" {
				continue
			}
			a, b := files[i].path+"/", before.path+"/"
			if strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
				w.texts = append(w.texts, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", volume, kind, files[i], before))
			}
		}
	}
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
