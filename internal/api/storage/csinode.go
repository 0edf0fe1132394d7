package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

const maxNodeID = 256

// CSINodes is the row of storage.k8s.io/v1 CSINode.
var CSINodes = api.Register(&api.Resource{
	Group:        storagev1.GroupName,
	Name:         "csinodes",
	Singular:     "csinode",
	Kind:         "CSINode",
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[storagev1.CSINode, storagev1.CSINodeList]("v1")},
	Prefix:       "csinodes",

	Validate:       api.Check(validateCSINode),
	ValidateUpdate: api.CheckUpdate(validateCSINodeUpdate),
	ReturnsDeleted: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Drivers", "integer", "Drivers indicates the number of CSI drivers registered on the node"),
		api.AgeColumn,
	},
	Cells: api.Print(func(n *storagev1.CSINode, p api.PrintOptions) []any {
		return []any{n.Name, int64(len(n.Spec.Drivers)), api.Age(n.CreationTimestamp, p)}
	}),
})

var driversPath = field.NewPath("spec", "drivers")

// validateCSINodeUpdate lets drivers come and go, and change what they can take.
func validateCSINodeUpdate(n, old *storagev1.CSINode) check.Errors {
	e := validateCSINode(n)
	for _, before := range old.Spec.Drivers {
		for _, after := range n.Spec.Drivers {
			if before.Name == after.Name {
				before.Allocatable, after.Allocatable = nil, nil
				e.Unchanged(driversPath, after, before)
			}
		}
	}
	return e
}

func validateCSINode(n *storagev1.CSINode) (e check.Errors) {
	seen := sets.New[string]()
	for i := range n.Spec.Drivers {
		d, at := &n.Spec.Drivers[i], driversPath.Index(i)
		e.Add(core.ValidateCSIDriverName(d.Name, at.Child("name"))...)
		if d.NodeID == "" {
			e.Required(at.Child("nodeID"), "")
		}
		if len(d.NodeID) > maxNodeID {
			e.Invalidf(at.Child("nodeID"), d.NodeID, "must be %d characters or less", maxNodeID)
		}
		if d.Allocatable != nil {
			e.NonNegative(at.Child("allocatable", "count"), int64(ptr.Deref(d.Allocatable.Count, 0)))
		}
		if seen.Has(d.Name) {
			e.Duplicate(at.Child("name"), d.Name)
		}
		seen.Insert(d.Name)
		keys := sets.New[string]()
		for _, key := range d.TopologyKeys {
			if key == "" {
				e.Required(at, "")
			}
			if keys.Has(key) {
				e.Duplicate(at, key)
			}
			keys.Insert(key)
			e.Qualified(at, key)
		}
	}
	return e
}
