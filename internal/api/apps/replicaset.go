package apps

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// ReplicaSets is the row of apps/v1 ReplicaSet.
var ReplicaSets = api.Register(&api.Resource{
	Group:      appsv1.GroupName,
	Name:       "replicasets",
	Singular:   "replicaset",
	Kind:       "ReplicaSet",
	ShortNames: []string{"rs"},
	Categories: []string{"all"},
	Namespaced: true,
	Versions:   []api.Version{api.Serve[appsv1.ReplicaSet, appsv1.ReplicaSetList]("v1")},
	Prefix:     "replicasets",

	Default: api.On(func(rs *appsv1.ReplicaSet) {
		core.DefaultPodTemplate(&rs.Spec.Template)
		setDefault(&rs.Spec.Replicas, 1)
	}),
	PrepareCreate: api.On(func(rs *appsv1.ReplicaSet) {
		rs.Status = appsv1.ReplicaSetStatus{}
		core.DropDisabledTemplateFields(&rs.Spec.Template, nil)
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *appsv1.ReplicaSet) {
		n.Status = o.Status
		core.DropDisabledTemplateFields(&n.Spec.Template, &o.Spec.Template)
	}),
	Validate:                 api.Check(func(rs *appsv1.ReplicaSet) check.Errors { return validateReplicaSet(rs, nil) }),
	ValidateUpdate:           api.CheckUpdate(validateReplicaSetUpdate),
	Warnings:                 api.Warn(replicaSetWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		a, b := n.(*appsv1.ReplicaSet), o.(*appsv1.ReplicaSet)
		return changed(a.Spec, b.Spec, &a.ObjectMeta, &b.ObjectMeta, false)
	},

	Empty: api.On(func(o *appsv1.ReplicaSet) { o.Spec.Replicas = new(int32) }),
	Columns: slices.Concat([]metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Desired", "integer", appsv1.ReplicaSetSpec{}.SwaggerDoc()["replicas"]),
		api.Column("Current", "integer", appsv1.ReplicaSetStatus{}.SwaggerDoc()["replicas"]),
		api.Column("Ready", "integer", appsv1.ReplicaSetStatus{}.SwaggerDoc()["readyReplicas"]),
		api.AgeColumn,
	}, containerColumns(appsv1.ReplicaSetSpec{}.SwaggerDoc()["selector"])),
	Cells: api.Print(func(rs *appsv1.ReplicaSet, p api.PrintOptions) []any {
		names, images := containerCells(rs.Spec.Template.Spec.Containers)
		return []any{
			rs.Name, int64(orZero(rs.Spec.Replicas)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas), api.Age(rs.CreationTimestamp, p),
			names, images, metav1.FormatLabelSelector(rs.Spec.Selector),
		}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *appsv1.ReplicaSet) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckSame(validateReplicaSetStatus),
	},
	Scale: &api.Scale{
		Get: func(o api.Object) (int32, int32, string, error) {
			rs := o.(*appsv1.ReplicaSet)
			selector, err := selectorText(rs.Spec.Selector)
			return orZero(rs.Spec.Replicas), rs.Status.Replicas, selector, err
		},
		Set:          func(o api.Object, n int32) { o.(*appsv1.ReplicaSet).Spec.Replicas = &n },
		ReplicasPath: "spec.replicas",
	},
})

func validateReplicaSetUpdate(rs, old *appsv1.ReplicaSet) check.Errors {
	e := validateReplicaSet(rs, &old.Spec.Template)
	e.Unchanged(field.NewPath("spec", "selector"), rs.Spec.Selector, old.Spec.Selector)
	return e
}

func validateReplicaSet(rs *appsv1.ReplicaSet, oldTemplate *corev1.PodTemplateSpec) (e check.Errors) {
	s, path := &rs.Spec, field.NewPath("spec")
	nonNegative(&e, path, count{"replicas", int64(orZero(s.Replicas))}, count{"minReadySeconds", int64(s.MinReadySeconds)})
	if selector := validateSelector(&e, s.Selector, "deployment", path.Child("selector")); selector != nil {
		e.Add(core.ValidateReplicatedTemplate(&s.Template, oldTemplate, selector, "ReplicaSet", path.Child("template"))...)
	}
	return e
}

func validateReplicaSetStatus(rs *appsv1.ReplicaSet) (e check.Errors) {
	s, path := &rs.Status, field.NewPath("status")
	labeled, ready, available := count{"fullyLabeledReplicas", int64(s.FullyLabeledReplicas)}, count{"readyReplicas", int64(s.ReadyReplicas)}, count{"availableReplicas", int64(s.AvailableReplicas)}
	nonNegative(&e, path, count{"replicas", int64(s.Replicas)}, labeled, ready, available,
		count{"observedGeneration", s.ObservedGeneration}, count{"terminatingReplicas", int64(orZero(s.TerminatingReplicas))})
	notMoreThan(&e, path, s.Replicas, "cannot be greater than status.replicas", labeled, ready, available)
	notMoreThan(&e, path, s.ReadyReplicas, "cannot be greater than readyReplicas", available)
	return e
}

func replicaSetWarnings(rs, old *appsv1.ReplicaSet) []string {
	if old == nil {
		return append(nameWarnings(rs.Name), core.TemplateWarnings(&rs.Spec.Template, templatePath)...)
	}
	if !changed(rs.Spec, old.Spec, &rs.ObjectMeta, &old.ObjectMeta, false) {
		return nil
	}
	return core.TemplateWarnings(&rs.Spec.Template, templatePath)
}
