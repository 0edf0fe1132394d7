package storage

import (
	"reflect"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// VolumeAttributesClasses is the row of storage.k8s.io/v1 VolumeAttributesClass.
var VolumeAttributesClasses = api.Register(&api.Resource{
	Group:        storagev1.GroupName,
	Name:         "volumeattributesclasses",
	Singular:     "volumeattributesclass",
	Kind:         "VolumeAttributesClass",
	ShortNames:   []string{"vac"},
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[storagev1.VolumeAttributesClass, storagev1.VolumeAttributesClassList]("v1")},
	Prefix:       "volumeattributesclasses",

	Validate: api.Check(validateAttributesClass),
	ValidateUpdate: api.CheckUpdate(func(n, o *storagev1.VolumeAttributesClass) (e check.Errors) {
		if n.DriverName != o.DriverName {
			e.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden.")
		}
		if !reflect.DeepEqual(n.Parameters, o.Parameters) {
			e.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden.")
		}
		e.Add(validateAttributesClass(n)...)
		return e
	}),
	AllowUnconditionalUpdate: true,
	ReturnsDeleted:           true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("DriverName", "string", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(c *storagev1.VolumeAttributesClass, p api.PrintOptions) []any {
		return []any{c.Name, c.DriverName, api.Age(c.CreationTimestamp, p)}
	}),
})

func validateAttributesClass(c *storagev1.VolumeAttributesClass) (e check.Errors) {
	e.Add(validateProvisioner(c.DriverName, field.NewPath("driverName"))...)
	e.Add(validateParameters(c.Parameters, field.NewPath("parameters"))...)
	if len(c.Parameters) == 0 {
		e.Required(field.NewPath("parameters"), "must contain at least one key/value pair")
	}
	return e
}
