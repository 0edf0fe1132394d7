package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

const conflictingPaths = "conflicting duplicate paths"

func validateProjected(v *corev1.ProjectedVolumeSource, path *field.Path, opts *podOptions) (e check.Errors) {
	validateMode(&e, v.DefaultMode, path.Child("defaultMode"))
	paths := sets.New[string]()
	take := func(p string, blame any) {
		if paths.Has(p) {
			e.Invalid(path, blame, conflictingPaths)
		}
		paths.Insert(p)
	}
	items := func(name string, list []corev1.KeyToPath, at *field.Path) {
		e.NonEmpty(at.Child("name"), name)
		for j := range list {
			e.Add(validateItem(&list[j], at.Child("items").Index(j))...)
			if list[j].Path != "" {
				take(list[j].Path, name)
			}
		}
	}
	for i := range v.Sources {
		s, at, count := &v.Sources[i], path.Child("sources").Index(i), 0
		if s.Secret != nil {
			count++
			items(s.Secret.Name, s.Secret.Items, at.Child("secret"))
		}
		if s.ConfigMap != nil {
			count++
			items(s.ConfigMap.Name, s.ConfigMap.Items, at.Child("configMap"))
		}
		if s.DownwardAPI != nil {
			count++
			for j := range s.DownwardAPI.Items {
				f := &s.DownwardAPI.Items[j]
				e.Add(validateDownwardFile(f, at.Child("downwardAPI"))...)
				if f.Path != "" {
					take(f.Path, f.Path)
				}
			}
		}
		if s.ServiceAccountToken != nil {
			count++
			e.Add(validateTokenProjection(s.ServiceAccountToken, path, at.Child("serviceAccountToken"), opts)...)
		}
		if s.ClusterTrustBundle != nil {
			count++
			e.Add(validateTrustBundleProjection(s.ClusterTrustBundle, at.Child("clusterTrustBundle"))...)
			take(s.ClusterTrustBundle.Path, s.ClusterTrustBundle.Path)
		}
		if s.PodCertificate != nil {
			count++
			e.Add(validatePodCertificate(s.PodCertificate, at.Child("podCertificate"), take)...)
		}
		if count > 1 {
			e.Forbidden(at, "may not specify more than 1 volume type per source")
		}
	}
	return e
}

// validateTokenProjection reports the path of the token at the volume, as upstream does.
func validateTokenProjection(t *corev1.ServiceAccountTokenProjection, volume, path *field.Path, opts *podOptions) (e check.Errors) {
	var seconds int64
	if t.ExpirationSeconds != nil {
		seconds = *t.ExpirationSeconds
	}
	if seconds < 10*60 {
		e.Invalid(path.Child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes")
	}
	if seconds > 1<<32 {
		e.Invalid(path.Child("expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds")
	}
	switch {
	case t.Path == "":
		e.Required(volume.Child("path"), "")
	case !opts.nonLocalTokenPath:
		e.Add(validateNonReserved(t.Path, volume.Child("path"))...)
	}
	return e
}
