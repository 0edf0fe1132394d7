package storage

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

const (
	maxParametersSize = 256 << 10
	maxParameters     = 512
)

// StorageClasses is the row of storage.k8s.io/v1 StorageClass.
var StorageClasses = api.Register(&api.Resource{
	Group:        storagev1.GroupName,
	Name:         "storageclasses",
	Singular:     "storageclass",
	Kind:         "StorageClass",
	ShortNames:   []string{"sc"},
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[storagev1.StorageClass, storagev1.StorageClassList]("v1")},
	Prefix:       "storageclasses",

	Default: api.On(func(c *storagev1.StorageClass) {
		setDefault(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		setDefault(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	}),
	Validate: api.Check(validateStorageClass),
	ValidateUpdate: api.CheckUpdate(func(n, o *storagev1.StorageClass) check.Errors {
		e := validateStorageClass(n)
		e.Unchanged(field.NewPath("parameters"), n.Parameters, o.Parameters)
		e.Unchanged(field.NewPath("provisioner"), n.Provisioner, o.Provisioner)
		e.Unchanged(field.NewPath("reclaimPolicy"), n.ReclaimPolicy, o.ReclaimPolicy)
		e.Unchanged(field.NewPath("volumeBindingMode"), n.VolumeBindingMode, o.VolumeBindingMode)
		return e
	}),
	Warnings:                 api.Warn(storageClassWarnings),
	AllowUnconditionalUpdate: true,
	ReturnsDeleted:           true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Provisioner", "string", storagev1.StorageClass{}.SwaggerDoc()["provisioner"]),
		api.Column("ReclaimPolicy", "string", storagev1.StorageClass{}.SwaggerDoc()["reclaimPolicy"]),
		api.Column("VolumeBindingMode", "string", storagev1.StorageClass{}.SwaggerDoc()["volumeBindingMode"]),
		api.Column("AllowVolumeExpansion", "string", storagev1.StorageClass{}.SwaggerDoc()["allowVolumeExpansion"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(c *storagev1.StorageClass, p api.PrintOptions) []any {
		name := c.Name
		if c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" || c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true" {
			name += " (default)"
		}
		reclaim := ptr.Deref(c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		binding := ptr.Deref(c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
		return []any{name, c.Provisioner, string(reclaim), string(binding), ptr.Deref(c.AllowVolumeExpansion, false), api.Age(c.CreationTimestamp, p)}
	}),
})

func setDefault[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

func storageClassWarnings(c, _ *storagev1.StorageClass) (warnings []string) {
	for i, term := range c.AllowedTopologies {
		for k, r := range term.MatchLabelExpressions {
			if msg, old := core.DeprecatedNodeLabel(r.Key); old {
				at := field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(k).Child("key")
				warnings = append(warnings, at.String()+": "+msg)
			}
		}
	}
	return warnings
}

func validateStorageClass(c *storagev1.StorageClass) (e check.Errors) {
	e.Add(validateProvisioner(c.Provisioner, field.NewPath("provisioner"))...)
	e.Add(validateParameters(c.Parameters, field.NewPath("parameters"))...)
	if policy := ptr.Deref(c.ReclaimPolicy, ""); policy != "" {
		check.OneOf(&e, field.NewPath("reclaimPolicy"), policy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)
	}
	if at := field.NewPath("volumeBindingMode"); c.VolumeBindingMode == nil {
		e.Required(at, "")
	} else {
		check.OneOf(&e, at, *c.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)
	}
	e.Add(validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
	return e
}

// validateProvisioner requires the name of a driver.
func validateProvisioner(name string, at *field.Path) (e check.Errors) {
	if name == "" {
		e.Required(at, "")
	} else {
		e.Qualified(at, strings.ToLower(name))
	}
	return e
}

func validateParameters(parameters map[string]string, at *field.Path) (e check.Errors) {
	if len(parameters) > maxParameters {
		e.TooLong(at, maxParameters)
		return e
	}
	size := 0
	for key, value := range parameters {
		if key == "" {
			e.Invalid(at, key, "field can not be empty.")
		}
		size += len(key) + len(value)
	}
	if size > maxParametersSize {
		e.TooLong(at, maxParametersSize)
	}
	return e
}

func validateTopologies(terms []corev1.TopologySelectorTerm, at *field.Path) (e check.Errors) {
	before := make([]map[string]sets.Set[string], len(terms)) // so that a term without labels is a duplicate; sic
	for i, term := range terms {
		path, labels := at.Index(i).Child("matchLabelExpressions"), map[string]sets.Set[string]{}
		for k, r := range term.MatchLabelExpressions {
			values := sets.New[string]()
			if len(r.Values) == 0 {
				e.Required(path.Index(k).Child("values"), "")
			}
			for j, value := range r.Values {
				if values.Has(value) {
					e.Duplicate(path.Index(k).Child("values").Index(j), value)
				}
				values.Insert(value)
			}
			e.Add(metav1validation.ValidateLabelName(r.Key, path.Index(k).Child("key"))...)
			if _, there := labels[r.Key]; there {
				e.Duplicate(path.Index(k).Child("key"), r.Key)
			}
			labels[r.Key] = values
		}
		for _, other := range before {
			if equality.Semantic.DeepEqual(labels, other) {
				e.Duplicate(path, "")
			}
		}
		before = append(before, labels)
	}
	return e
}
