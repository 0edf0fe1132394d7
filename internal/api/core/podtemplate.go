package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// PodTemplates is the row of core/v1 PodTemplate.
var PodTemplates = api.Register(&api.Resource{
	Name:       "podtemplates",
	Singular:   "podtemplate",
	Kind:       "PodTemplate",
	Namespaced: true,
	Versions:   []api.Version{api.Serve[corev1.PodTemplate, corev1.PodTemplateList]("v1")},
	Prefix:     "podtemplates",

	Default:       api.On(func(t *corev1.PodTemplate) { DefaultPodTemplate(&t.Template) }),
	PrepareCreate: api.On(func(t *corev1.PodTemplate) { DropDisabledTemplateFields(&t.Template, nil) }),
	PrepareUpdate: api.OnUpdate(func(n, o *corev1.PodTemplate) { DropDisabledTemplateFields(&n.Template, &o.Template) }),
	Validate: api.Check(func(t *corev1.PodTemplate) check.Errors {
		return ValidatePodTemplate(&t.Template, nil, field.NewPath("template"))
	}),
	ValidateUpdate: api.CheckUpdate(func(n, o *corev1.PodTemplate) check.Errors {
		return ValidatePodTemplate(&n.Template, &o.Template, field.NewPath("template"))
	}),
	Warnings: api.Warn(func(t, old *corev1.PodTemplate) []string {
		if old != nil && equality.Semantic.DeepEqual(t.Template, old.Template) {
			return nil
		}
		return TemplateWarnings(&t.Template, field.NewPath("template"))
	}),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		return !equality.Semantic.DeepEqual(n.(*corev1.PodTemplate).Template, o.(*corev1.PodTemplate).Template)
	},
	ReturnsDeleted: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Containers", "string", "Names of each container in the template."),
		api.Column("Images", "string", "Images referenced by each container in the template."),
		api.Column("Pod Labels", "string", "The labels for the pod template."),
	},
	Cells: api.Print(func(t *corev1.PodTemplate, _ api.PrintOptions) []any {
		names, images := containerCells(&t.Template)
		return []any{t.Name, names, images, labels.FormatLabels(t.Template.Labels)}
	}),
})
