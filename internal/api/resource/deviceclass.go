package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// DeviceClasses is the row of resource.k8s.io/v1 DeviceClass.
var DeviceClasses = api.Register(&api.Resource{
	Group:        resourcev1.GroupName,
	Name:         "deviceclasses",
	Singular:     "deviceclass",
	Kind:         "DeviceClass",
	NameRule:     check.LongName,
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[resourcev1.DeviceClass, resourcev1.DeviceClassList]("v1")},
	Prefix:       "deviceclasses",

	ReturnsDeleted: true,

	Validate: api.Check(func(c *resourcev1.DeviceClass) check.Errors { return validateClass(c, nil) }),
	ValidateUpdate: api.CheckUpdate(func(n, o *resourcev1.DeviceClass) check.Errors {
		return validateClass(n, &o.Spec)
	}),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		return !equality.Semantic.DeepEqual(n.(*resourcev1.DeviceClass).Spec, o.(*resourcev1.DeviceClass).Spec)
	},

	Columns: []metav1.TableColumnDefinition{api.NameColumn, api.AgeColumn},
	Cells: api.Print(func(c *resourcev1.DeviceClass, p api.PrintOptions) []any {
		return []any{c.Name, api.Age(c.CreationTimestamp, p)}
	}),
})

func validateClass(c *resourcev1.DeviceClass, old *resourcev1.DeviceClassSpec) (e check.Errors) {
	s, spec := &c.Spec, field.NewPath("spec")
	stored := old != nil && equality.Semantic.DeepEqual(s.Selectors, old.Selectors)
	e.Add(validateSelectors(s.Selectors, spec.Child("selectors"), stored)...)
	stored = old != nil && equality.Semantic.DeepEqual(s.Config, old.Config)
	e.Add(validateList(s.Config, resourcev1.DeviceConfigMaxSize, spec.Child("config"), func(c *resourcev1.DeviceClassConfiguration, at *field.Path) check.Errors {
		return validateConfiguration(&c.DeviceConfiguration, at, stored)
	})...)
	if name := s.ExtendedResourceName; name != nil && !core.IsExtendedResource(*name) {
		e.Invalid(spec.Child("extendedResourceName"), *name, "must be a valid extended resource name")
	}
	return e
}
