package apps

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// Deployments is the row of apps/v1 Deployment.
var Deployments = api.Register(&api.Resource{
	Group:      appsv1.GroupName,
	Name:       "deployments",
	Singular:   "deployment",
	Kind:       "Deployment",
	ShortNames: []string{"deploy"},
	Categories: []string{"all"},
	Namespaced: true,
	Versions:   []api.Version{api.Serve[appsv1.Deployment, appsv1.DeploymentList]("v1")},
	Prefix:     "deployments",

	Default: api.On(defaultDeployment),
	PrepareCreate: api.On(func(d *appsv1.Deployment) {
		d.Status = appsv1.DeploymentStatus{}
		core.DropDisabledTemplateFields(&d.Spec.Template, nil)
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *appsv1.Deployment) {
		n.Status = o.Status
		core.DropDisabledTemplateFields(&n.Spec.Template, &o.Spec.Template)
	}),
	Validate:                 api.Check(func(d *appsv1.Deployment) check.Errors { return validateDeployment(d, nil) }),
	ValidateUpdate:           api.CheckUpdate(validateDeploymentUpdate),
	Warnings:                 api.Warn(deploymentWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		a, b := n.(*appsv1.Deployment), o.(*appsv1.Deployment)
		return changed(a.Spec, b.Spec, &a.ObjectMeta, &b.ObjectMeta, true)
	},

	Empty: api.On(func(o *appsv1.Deployment) { o.Spec.Replicas = new(int32) }),
	Columns: slices.Concat([]metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Ready", "string", "Number of the pod with ready state"),
		api.Column("Up-to-date", "string", appsv1.DeploymentStatus{}.SwaggerDoc()["updatedReplicas"]),
		api.Column("Available", "string", appsv1.DeploymentStatus{}.SwaggerDoc()["availableReplicas"]),
		api.AgeColumn,
	}, containerColumns(appsv1.DeploymentSpec{}.SwaggerDoc()["selector"])),
	Cells: api.Print(func(d *appsv1.Deployment, p api.PrintOptions) []any {
		names, images := containerCells(d.Spec.Template.Spec.Containers)
		return []any{
			d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, orZero(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas),
			api.Age(d.CreationTimestamp, p), names, images, printSelector(d.Spec.Selector),
		}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *appsv1.Deployment) { n.Spec, n.Labels = o.Spec, o.Labels }),
		ValidateUpdate: api.CheckUpdate(validateDeploymentStatus),
		ResetFields:    []string{"spec", "metadata.labels"},
	},
	Scale: &api.Scale{
		Get: func(o api.Object) (int32, int32, string, error) {
			d := o.(*appsv1.Deployment)
			selector, err := selectorText(d.Spec.Selector)
			return orZero(d.Spec.Replicas), d.Status.Replicas, selector, err
		},
		Set:          func(o api.Object, n int32) { o.(*appsv1.Deployment).Spec.Replicas = &n },
		ReplicasPath: "spec.replicas",
	},
})

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	core.DefaultPodTemplate(&s.Template)
	setDefault(&s.Replicas, 1)
	setDefault(&s.RevisionHistoryLimit, 10)
	setDefault(&s.ProgressDeadlineSeconds, 600)
	if s.Strategy.Type == "" {
		s.Strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		setDefault(&s.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		setDefault(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setDefault(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
}

func validateDeploymentUpdate(d, old *appsv1.Deployment) check.Errors {
	e := validateDeployment(d, old)
	e.Unchanged(field.NewPath("spec", "selector"), d.Spec.Selector, old.Spec.Selector)
	return e
}

func validateDeployment(d, old *appsv1.Deployment) (e check.Errors) {
	s, path := &d.Spec, field.NewPath("spec")
	e.NonNegative(path.Child("replicas"), int64(orZero(s.Replicas)))
	if selector := validateSelector(&e, s.Selector, "deployment", path.Child("selector")); selector != nil {
		e.Add(core.ValidateReplicatedTemplate(&s.Template, templateOf(old), selector, "ReplicaSet", path.Child("template"))...)
	}
	e.Add(validateDeploymentStrategy(&s.Strategy, path.Child("strategy"))...)
	e.NonNegative(path.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if s.RevisionHistoryLimit != nil {
		e.NonNegative(path.Child("revisionHistoryLimit"), int64(*s.RevisionHistoryLimit))
	}
	if deadline := s.ProgressDeadlineSeconds; deadline != nil {
		e.NonNegative(path.Child("progressDeadlineSeconds"), int64(*deadline))
		if *deadline <= s.MinReadySeconds {
			e.Invalid(path.Child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds")
		}
	}
	return e
}

func templateOf(d *appsv1.Deployment) *corev1.PodTemplateSpec {
	if d == nil {
		return nil
	}
	return &d.Spec.Template
}

func validateDeploymentStrategy(s *appsv1.DeploymentStrategy, path *field.Path) (e check.Errors) {
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			e.Forbidden(rolling, "may not be specified when strategy `type` is 'Recreate'")
		}
		return e
	case appsv1.RollingUpdateDeploymentStrategyType:
	default:
		e.Add(field.NotSupported(path, s, []string{string(appsv1.RecreateDeploymentStrategyType), string(appsv1.RollingUpdateDeploymentStrategyType)}))
		return e
	}
	if s.RollingUpdate == nil {
		e.Required(rolling, "this should be defaulted and never be nil")
		return e
	}
	unavailable, surge := value(s.RollingUpdate.MaxUnavailable), value(s.RollingUpdate.MaxSurge)
	e.IntOrPercent(rolling.Child("maxUnavailable"), unavailable)
	e.IntOrPercent(rolling.Child("maxSurge"), surge)
	if check.AmountOf(unavailable) == 0 && check.AmountOf(surge) == 0 {
		e.Invalid(rolling.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0")
	}
	e.AtMost100Percent(rolling.Child("maxUnavailable"), unavailable)
	return e
}

func value(p *intstr.IntOrString) intstr.IntOrString {
	if p == nil {
		return intstr.IntOrString{}
	}
	return *p
}

func validateDeploymentStatus(d, old *appsv1.Deployment) (e check.Errors) {
	s, path := &d.Status, field.NewPath("status")
	updated, ready, available := count{"updatedReplicas", int64(s.UpdatedReplicas)}, count{"readyReplicas", int64(s.ReadyReplicas)}, count{"availableReplicas", int64(s.AvailableReplicas)}
	nonNegative(&e, path, count{"observedGeneration", s.ObservedGeneration}, count{"replicas", int64(s.Replicas)}, updated, ready, available,
		count{"unavailableReplicas", int64(s.UnavailableReplicas)}, count{"terminatingReplicas", int64(orZero(s.TerminatingReplicas))}, count{"collisionCount", int64(orZero(s.CollisionCount))})
	notMoreThan(&e, path, s.Replicas, "cannot be greater than status.replicas", updated, ready, available)
	notMoreThan(&e, path, s.ReadyReplicas, "cannot be greater than readyReplicas", available)
	if decremented(s.CollisionCount, old.Status.CollisionCount) {
		e.Invalid(path.Child("collisionCount"), orZero(s.CollisionCount), "cannot be decremented")
	}
	return e
}

func deploymentWarnings(d, old *appsv1.Deployment) []string {
	if old == nil {
		return append(nameWarnings(d.Name), core.TemplateWarnings(&d.Spec.Template, templatePath)...)
	}
	if !changed(d.Spec, old.Spec, &d.ObjectMeta, &old.ObjectMeta, true) {
		return nil
	}
	return core.TemplateWarnings(&d.Spec.Template, templatePath)
}
