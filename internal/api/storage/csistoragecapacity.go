package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// CSIStorageCapacities is the row of storage.k8s.io/v1 CSIStorageCapacity.
var CSIStorageCapacities = api.Register(&api.Resource{
	Group:        storagev1.GroupName,
	Name:         "csistoragecapacities",
	Singular:     "csistoragecapacity",
	Kind:         "CSIStorageCapacity",
	Namespaced:   true,
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[storagev1.CSIStorageCapacity, storagev1.CSIStorageCapacityList]("v1")},
	Prefix:       "csistoragecapacities",

	Validate: api.Check(func(c *storagev1.CSIStorageCapacity) check.Errors { return validateCapacity(c, nil) }),
	ValidateUpdate: api.CheckUpdate(func(n, o *storagev1.CSIStorageCapacity) check.Errors {
		e := validateCapacity(n, o)
		if !equality.Semantic.DeepEqual(n.NodeTopology, o.NodeTopology) {
			e.Invalid(field.NewPath("nodeTopology"), n.NodeTopology, "field is immutable")
		}
		if n.StorageClassName != o.StorageClassName {
			e.Invalid(field.NewPath("storageClassName"), n.StorageClassName, "field is immutable")
		}
		return e
	}),
	Warnings: api.Warn(func(c, _ *storagev1.CSIStorageCapacity) []string {
		return core.NodeSelectorWarnings(c.NodeTopology, field.NewPath("nodeTopology"))
	}),
})

func validateCapacity(c, old *storagev1.CSIStorageCapacity) (e check.Errors) {
	var bend metav1validation.LabelSelectorValidationOptions
	if old != nil {
		bend.AllowInvalidLabelValueInSelector = len(metav1validation.ValidateLabelSelector(old.NodeTopology, bend, nil)) > 0
	}
	e.Add(metav1validation.ValidateLabelSelector(c.NodeTopology, bend, field.NewPath("nodeTopology"))...)
	e.Subdomain(field.NewPath("storageClassName"), c.StorageClassName)
	if c.Capacity != nil {
		e.Add(core.ValidateNonNegativeQuantity(*c.Capacity, field.NewPath("capacity"))...)
	}
	return e
}
