package core

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// ReplicationControllers is the row of core/v1 ReplicationController.
var ReplicationControllers = api.Register(&api.Resource{
	Name:       "replicationcontrollers",
	Singular:   "replicationcontroller",
	Kind:       "ReplicationController",
	ShortNames: []string{"rc"},
	Categories: []string{"all"},
	Namespaced: true,
	NameRule:   check.LongName,
	Versions:   []api.Version{api.Serve[corev1.ReplicationController, corev1.ReplicationControllerList]("v1")},
	Prefix:     "controllers",

	Default: api.On(defaultReplicationController),
	PrepareCreate: api.On(func(rc *corev1.ReplicationController) {
		rc.Status = corev1.ReplicationControllerStatus{}
		DropDisabledTemplateFields(rc.Spec.Template, nil)
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *corev1.ReplicationController) {
		n.Status = o.Status
		DropDisabledTemplateFields(n.Spec.Template, o.Spec.Template)
	}),
	Validate:                 api.Check(func(rc *corev1.ReplicationController) check.Errors { return validateReplicationController(rc, nil) }),
	ValidateUpdate:           api.CheckUpdate(validateReplicationControllerUpdate),
	Warnings:                 api.Warn(replicationControllerWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		return !equality.Semantic.DeepEqual(n.(*corev1.ReplicationController).Spec, o.(*corev1.ReplicationController).Spec)
	},
	DefaultPropagation: metav1.DeletePropagationOrphan,

	Fields: map[string]func(api.Object) string{
		"status.replicas": api.Select(func(rc *corev1.ReplicationController) string { return strconv.Itoa(int(rc.Status.Replicas)) }),
	},
	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Desired", "integer", corev1.ReplicationControllerSpec{}.SwaggerDoc()["replicas"]),
		api.Column("Current", "integer", corev1.ReplicationControllerStatus{}.SwaggerDoc()["replicas"]),
		api.Column("Ready", "integer", corev1.ReplicationControllerStatus{}.SwaggerDoc()["readyReplicas"]),
		api.AgeColumn,
		api.WideColumn("Containers", "string", "Names of each container in the template."),
		api.WideColumn("Images", "string", "Images referenced by each container in the template."),
		api.WideColumn("Selector", "string", corev1.ReplicationControllerSpec{}.SwaggerDoc()["selector"]),
	},
	Cells: api.Print(func(rc *corev1.ReplicationController, p api.PrintOptions) []any {
		names, images := containerCells(rc.Spec.Template)
		return []any{
			rc.Name, int64(ptr.Deref(rc.Spec.Replicas, 0)), int64(rc.Status.Replicas), int64(rc.Status.ReadyReplicas), api.Age(rc.CreationTimestamp, p),
			names, images, labels.FormatLabels(rc.Spec.Selector),
		}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *corev1.ReplicationController) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckSame(validateReplicationControllerStatus),
	},
	Scale: &api.Scale{
		Get: func(o api.Object) (int32, int32, string, error) {
			rc := o.(*corev1.ReplicationController)
			return ptr.Deref(rc.Spec.Replicas, 0), rc.Status.Replicas, labels.Set(rc.Spec.Selector).String(), nil
		},
		Set:          func(o api.Object, n int32) { o.(*corev1.ReplicationController).Spec.Replicas = &n },
		ReplicasPath: "spec.replicas",
	},
})

// containerCells joins the names and the images of a template's containers.
func containerCells(t *corev1.PodTemplateSpec) (names, images string) {
	if t == nil {
		return "", ""
	}
	var n, i []string
	for _, c := range t.Spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// defaultReplicationController takes selector and labels from the template.
func defaultReplicationController(rc *corev1.ReplicationController) {
	if t := rc.Spec.Template; t != nil {
		if t.Labels != nil {
			if len(rc.Spec.Selector) == 0 {
				rc.Spec.Selector = maps.Clone(t.Labels)
			}
			if len(rc.Labels) == 0 {
				rc.Labels = maps.Clone(t.Labels)
			}
		}
		DefaultPodTemplate(t)
	}
	set(&rc.Spec.Replicas, int32(1))
}

func validateReplicationController(rc, old *corev1.ReplicationController) (e check.Errors) {
	path := field.NewPath("spec")
	e.NonNegative(path.Child("minReadySeconds"), int64(rc.Spec.MinReadySeconds))
	if len(rc.Spec.Selector) == 0 {
		e.Required(path.Child("selector"), "")
	}
	if rc.Spec.Replicas == nil {
		e.Required(path.Child("replicas"), "")
	} else {
		e.NonNegative(path.Child("replicas"), int64(*rc.Spec.Replicas))
	}
	var before *corev1.PodTemplateSpec
	if old != nil {
		before = old.Spec.Template
	}
	e.Add(ValidateReplicatedTemplate(rc.Spec.Template, before, labels.SelectorFromSet(rc.Spec.Selector), "ReplicationController", path.Child("template"))...)
	return e
}

// validateReplicationControllerUpdate also keeps selectors that a controller cannot express because it was made from a ReplicaSet.
func validateReplicationControllerUpdate(rc, old *corev1.ReplicationController) (e check.Errors) {
	e.Add(validateReplicationController(rc, old)...)
	for key, value := range old.Annotations {
		rest, nonConvertible := strings.CutPrefix(key, corev1.NonConvertibleAnnotationPrefix)
		broken, ok := strings.CutPrefix(rest, "/")
		switch {
		case !nonConvertible || !ok || strings.Contains(broken, "/"):
		case strings.Contains(broken, "selector"):
			if !equality.Semantic.DeepEqual(old.Spec.Selector, rc.Spec.Selector) {
				e.Invalid(field.NewPath("spec", "selector"), rc.Spec.Selector, "cannot update non-convertible selector")
			}
		default:
			e.Add(&field.Error{Type: field.ErrorTypeNotFound, BadValue: value, Field: broken, Detail: "unknown non-convertible field"})
		}
	}
	return e
}

func validateReplicationControllerStatus(rc *corev1.ReplicationController) (e check.Errors) {
	path, s := field.NewPath("status"), &rc.Status
	e.NonNegative(path.Child("replicas"), int64(s.Replicas))
	e.NonNegative(path.Child("fullyLabeledReplicas"), int64(s.FullyLabeledReplicas))
	e.NonNegative(path.Child("readyReplicas"), int64(s.ReadyReplicas))
	e.NonNegative(path.Child("availableReplicas"), int64(s.AvailableReplicas))
	e.NonNegative(path.Child("observedGeneration"), s.ObservedGeneration)
	const beyond = "cannot be greater than status.replicas"
	if s.FullyLabeledReplicas > s.Replicas {
		e.Invalid(path.Child("fullyLabeledReplicas"), s.FullyLabeledReplicas, beyond)
	}
	if s.ReadyReplicas > s.Replicas {
		e.Invalid(path.Child("readyReplicas"), s.ReadyReplicas, beyond)
	}
	if s.AvailableReplicas > s.Replicas {
		e.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, beyond)
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		e.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas")
	}
	return e
}

func replicationControllerWarnings(rc, old *corev1.ReplicationController) (warnings []string) {
	path := field.NewPath("spec", "template")
	if old == nil {
		if msgs := validation.IsDNS1123Label(rc.Name); len(msgs) > 0 {
			warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
		}
	} else if equality.Semantic.DeepEqual(rc.Spec, old.Spec) {
		return nil
	} else {
		rc = old // as upstream, which takes one for the other
	}
	if rc.Spec.Template == nil {
		return warnings
	}
	return append(warnings, TemplateWarnings(rc.Spec.Template, path)...)
}
