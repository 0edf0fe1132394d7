package node

import (
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// RuntimeClasses is the row of node.k8s.io/v1 RuntimeClass.
var RuntimeClasses = api.Register(&api.Resource{
	Group:        nodev1.SchemeGroupVersion.Group,
	Name:         "runtimeclasses",
	Singular:     "runtimeclass",
	Kind:         "RuntimeClass",
	MetaOnUpdate: "NU",
	AnyFinalizer: true,
	Versions:     []api.Version{api.Serve[nodev1.RuntimeClass, nodev1.RuntimeClassList]("v1")},
	Prefix:       "runtimeclasses",

	Validate: api.Check(validateRuntimeClass),
	ValidateUpdate: api.CheckUpdate(func(n, o *nodev1.RuntimeClass) check.Errors {
		e := validateRuntimeClass(n)
		e.Unchanged(field.NewPath("handler"), n.Handler, o.Handler)
		return e
	}),
	Warnings:            api.Warn(runtimeClassWarnings),
	AllowCreateOnUpdate: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Handler", "string", ""),
		api.AgeColumn,
	},
	Cells: api.Print(func(c *nodev1.RuntimeClass, p api.PrintOptions) []any {
		return []any{c.Name, c.Handler, api.Age(c.CreationTimestamp, p)}
	}),
})

func runtimeClassWarnings(c, _ *nodev1.RuntimeClass) (warnings []string) {
	if c.Scheduling == nil {
		return nil
	}
	for key := range c.Scheduling.NodeSelector {
		if msg, old := core.DeprecatedNodeLabel(key); old {
			warnings = append(warnings, "scheduling.nodeSelector: "+msg)
		}
	}
	return warnings
}

func validateRuntimeClass(c *nodev1.RuntimeClass) (e check.Errors) {
	if at := field.NewPath("handler"); c.Handler == "" {
		e.Required(at, "")
	} else {
		e.Label(at, c.Handler)
	}
	if c.Overhead != nil {
		e.Add(core.ValidateLimits(c.Overhead.PodFixed, field.NewPath("overhead"))...)
	}
	if c.Scheduling != nil {
		e.Add(validateScheduling(c.Scheduling, field.NewPath("scheduling"))...)
	}
	return e
}

func validateScheduling(s *nodev1.Scheduling, at *field.Path) (e check.Errors) {
	e.Add(metav1validation.ValidateLabels(s.NodeSelector, at.Child("nodeSelector"))...)
	at = at.Child("tolerations")
	e.Add(core.ValidateTolerations(s.Tolerations, at)...)
	seen := map[corev1.Toleration]bool{}
	for i, t := range s.Tolerations {
		key := corev1.Toleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if seen[key] {
			e.Duplicate(at.Index(i), t)
		}
		seen[key] = true
	}
	return e
}
