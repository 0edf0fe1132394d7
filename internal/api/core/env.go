package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

func validateEnv(vars []corev1.EnvVar, path *field.Path) (e check.Errors) {
	for i := range vars {
		v, at := &vars[i], path.Index(i)
		if v.Name == "" {
			e.Required(at.Child("name"), "")
		} else {
			e.Messages(at.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))
		}
		if v.ValueFrom != nil {
			e.Add(validateEnvSource(v, at.Child("valueFrom"))...)
		}
	}
	return e
}

func validateEnvSource(v *corev1.EnvVar, path *field.Path) (e check.Errors) {
	from, count := v.ValueFrom, 0
	if from.FieldRef != nil {
		count++
		e.Add(validateFieldRef(from.FieldRef, envFields, path.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		count++
		e.Add(validateResourceFieldRef(from.ResourceFieldRef, path.Child("resourceFieldRef"), false)...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		count++
		e.Add(validateKeyRef(r.Name, r.Key, path.Child("configMapKeyRef"))...)
	}
	if r := from.SecretKeyRef; r != nil {
		count++
		e.Add(validateKeyRef(r.Name, r.Key, path.Child("secretKeyRef"))...)
	}
	if from.FileKeyRef != nil {
		count++
		e.Add(validateFileKey(from.FileKeyRef, path.Child("fileKeyRef"))...)
	}
	switch {
	case count == 0:
		e.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`")
	case v.Value != "":
		e.Invalid(path, "", "may not be specified when `value` is not empty")
	case count > 1:
		e.Invalid(path, "", "may not have more than one field specified at a time")
	}
	return e
}

func validateKeyRef(name, key string, path *field.Path) (e check.Errors) {
	e.Messages(path.Child("name"), name, apivalidation.NameIsDNSSubdomain(name, false))
	if key == "" {
		e.Required(path.Child("key"), "")
	} else {
		e.Messages(path.Child("key"), key, validation.IsConfigMapKey(key))
	}
	return e
}

func validateFileKey(r *corev1.FileKeySelector, path *field.Path) (e check.Errors) {
	if r.Key == "" {
		e.Required(path.Child("key"), "")
	} else {
		e.Messages(path.Child("key"), r.Key, validation.IsRelaxedEnvVarName(r.Key))
	}
	if r.VolumeName == "" {
		e.Required(path.Child("volumeName"), "")
	} else {
		e.Label(path.Child("volumeName"), r.VolumeName)
	}
	if r.Path == "" {
		e.Required(path.Child("path"), "")
	} else {
		e.Add(validateNoBacksteps(r.Path, path.Child("path"))...)
	}
	return e
}

func validateEnvFrom(vars []corev1.EnvFromSource, path *field.Path) (e check.Errors) {
	for i, v := range vars {
		at, count := path.Index(i), 0
		if v.Prefix != "" {
			e.Messages(at.Child("prefix"), v.Prefix, validation.IsRelaxedEnvVarName(v.Prefix))
		}
		source := func(kind, name string) {
			count++
			if name == "" {
				e.Required(at.Child(kind, "name"), "")
			} else {
				e.Messages(at.Child(kind, "name"), name, apivalidation.NameIsDNSSubdomain(name, true))
			}
		}
		if v.ConfigMapRef != nil {
			source("configMapRef", v.ConfigMapRef.Name)
		}
		if v.SecretRef != nil {
			source("secretRef", v.SecretRef.Name)
		}
		switch {
		case count == 0:
			e.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
		case count > 1:
			e.Invalid(path, "", "may not have more than one field specified at a time")
		}
	}
	return e
}

// The fields of a pod that variables and volumes may show, in alphabetical order.
var (
	envFields = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
	// The fields that the name of a selector may spell at all.
	podFields = []string{
		"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
		"spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName",
		"status.phase", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
)

func validateFieldRef(r *corev1.ObjectFieldSelector, shown []string, path *field.Path) (e check.Errors) {
	if r.APIVersion == "" {
		e.Required(path.Child("apiVersion"), "")
		return e
	}
	if r.FieldPath == "" {
		e.Required(path.Child("fieldPath"), "")
		return e
	}
	name, subscript, subscripted := cutSubscript(r.FieldPath)
	if err := knownPodField(r.APIVersion, r.FieldPath, name, subscripted); err != nil {
		e.Invalid(path.Child("fieldPath"), r.FieldPath, fmt.Sprintf("error converting fieldPath: %v", err))
		return e
	}
	if r.FieldPath == "spec.host" {
		name = "spec.nodeName"
	}
	switch {
	case subscripted && name == "metadata.annotations":
		e.Qualified(path, strings.ToLower(subscript))
	case subscripted && name == "metadata.labels":
		e.Qualified(path, subscript)
	case subscripted:
		e.Invalid(path, name, "does not support subscript")
	case !slices.Contains(shown, name):
		e.Add(field.NotSupported(path.Child("fieldPath"), name, shown))
	}
	return e
}

// knownPodField tells what a pod of the version does not have.
func knownPodField(version, label, name string, subscripted bool) error {
	if version != "v1" {
		return fmt.Errorf("unsupported pod version: %s", version)
	}
	if subscripted {
		if name == "metadata.annotations" || name == "metadata.labels" {
			return nil
		}
		return fmt.Errorf("field label does not support subscript: %s", label)
	}
	if label == "spec.host" || slices.Contains(podFields, label) {
		return nil
	}
	return fmt.Errorf("field label not supported: %s", label)
}

// cutSubscript splits metadata.labels['key'].
func cutSubscript(text string) (name, subscript string, ok bool) {
	if !strings.HasSuffix(text, "']") {
		return text, "", false
	}
	name, subscript, ok = strings.Cut(strings.TrimSuffix(text, "']"), "['")
	if !ok || name == "" {
		return text, "", false
	}
	return name, subscript, true
}

// The resources of a container that can be shown, in alphabetical order; huge pages of any size can too.
var shownResources = []string{"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"}

func isHugePageField(name string) bool {
	return strings.HasPrefix(name, "limits.hugepages-") || strings.HasPrefix(name, "requests.hugepages-")
}

func validateResourceFieldRef(r *corev1.ResourceFieldSelector, path *field.Path, volume bool) (e check.Errors) {
	switch {
	case volume && r.ContainerName == "":
		e.Required(path.Child("containerName"), "")
	case r.Resource == "":
		e.Required(path.Child("resource"), "")
	case !slices.Contains(shownResources, r.Resource) && !isHugePageField(r.Resource):
		e.Add(field.NotSupported(path.Child("resource"), r.Resource, shownResources))
	}
	if r.Divisor.IsZero() {
		return e
	}
	divisors, of := "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei", ""
	switch r.Resource {
	case "limits.cpu", "requests.cpu":
		divisors, of = "1m, 1", "cpu"
	case "limits.memory", "requests.memory":
		of = "memory"
	case "limits.ephemeral-storage", "requests.ephemeral-storage":
		of = "local ephemeral storage"
	default:
		if !isHugePageField(r.Resource) {
			return e
		}
		of = "hugepages"
	}
	if !slices.Contains(strings.Split(divisors, ", "), r.Divisor.String()) {
		if of == "cpu" {
			divisors = "1m and 1"
		}
		e.Invalidf(path.Child("divisor"), r.Resource, "only divisor's values %s are supported with the %s resource", divisors, of)
	}
	return e
}
