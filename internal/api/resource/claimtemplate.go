package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// ResourceClaimTemplates is the row of resource.k8s.io/v1 ResourceClaimTemplate.
var ResourceClaimTemplates = api.Register(&api.Resource{
	Group:        resourcev1.GroupName,
	Name:         "resourceclaimtemplates",
	Singular:     "resourceclaimtemplate",
	Kind:         "ResourceClaimTemplate",
	Namespaced:   true,
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[resourcev1.ResourceClaimTemplate, resourcev1.ResourceClaimTemplateList]("v1")},
	Prefix:       "resourceclaimtemplates",

	ReturnsDeleted: true,

	Default:  api.On(func(t *resourcev1.ResourceClaimTemplate) { defaultClaim(&t.Spec.Spec) }),
	Validate: api.Check(validateTemplate),
	ValidateUpdate: api.CheckUpdate(func(n, o *resourcev1.ResourceClaimTemplate) check.Errors {
		e := validateTemplate(n)
		e.Unchanged(field.NewPath("spec"), n.Spec, o.Spec)
		return e
	}),
	AllowUnconditionalUpdate: true,
	Hooks: api.Hooks{BeginCreate: grantAdmin(func(o api.Object) []resourcev1.DeviceRequest {
		return o.(*resourcev1.ResourceClaimTemplate).Spec.Spec.Devices.Requests
	})},

	Columns: []metav1.TableColumnDefinition{api.NameColumn, api.AgeColumn},
	Cells: api.Print(func(t *resourcev1.ResourceClaimTemplate, p api.PrintOptions) []any {
		return []any{t.Name, api.Age(t.CreationTimestamp, p)}
	}),
})

func validateTemplate(t *resourcev1.ResourceClaimTemplate) (e check.Errors) {
	at := field.NewPath("spec")
	e.Add(core.ValidateClaimTemplateMeta(&t.Spec.ObjectMeta, at.Child("metadata"))...)
	e.Add(validateClaim(&t.Spec.Spec, at.Child("spec"))...)
	return e
}
