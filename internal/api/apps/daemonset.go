package apps

import (
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// DaemonSets is the row of apps/v1 DaemonSet.
var DaemonSets = api.Register(&api.Resource{
	Group:      appsv1.GroupName,
	Name:       "daemonsets",
	Singular:   "daemonset",
	Kind:       "DaemonSet",
	ShortNames: []string{"ds"},
	Categories: []string{"all"},
	Namespaced: true,
	Versions:   []api.Version{api.Serve[appsv1.DaemonSet, appsv1.DaemonSetList]("v1")},
	Prefix:     "daemonsets",

	Default: api.On(defaultDaemonSet),
	PrepareCreate: api.On(func(ds *appsv1.DaemonSet) {
		ds.Status = appsv1.DaemonSetStatus{}
		if n, err := templateGeneration(ds); err == nil {
			setTemplateGeneration(ds, max(n, 1))
		}
		core.DropDisabledTemplateFields(&ds.Spec.Template, nil)
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *appsv1.DaemonSet) {
		core.DropDisabledTemplateFields(&n.Spec.Template, &o.Spec.Template)
		n.Status = o.Status
		generation, _ := templateGeneration(o) // stored, so it was validated
		if templateChanged(n, o) {
			generation++
		}
		setTemplateGeneration(n, generation)
	}),
	Validate:                 api.Check(func(ds *appsv1.DaemonSet) check.Errors { return validateDaemonSet(ds, nil) }),
	ValidateUpdate:           api.CheckUpdate(validateDaemonSetUpdate),
	Warnings:                 api.Warn(daemonSetWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		a, b := n.(*appsv1.DaemonSet), o.(*appsv1.DaemonSet)
		return changed(a.Spec, b.Spec, &a.ObjectMeta, &b.ObjectMeta, false)
	},

	OwnAnnotation: appsv1.DeprecatedTemplateGeneration,
	Empty:         api.On(func(ds *appsv1.DaemonSet) { setTemplateGeneration(ds, 0) }),
	Columns: slices.Concat([]metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Desired", "integer", appsv1.DaemonSetStatus{}.SwaggerDoc()["desiredNumberScheduled"]),
		api.Column("Current", "integer", appsv1.DaemonSetStatus{}.SwaggerDoc()["currentNumberScheduled"]),
		api.Column("Ready", "integer", appsv1.DaemonSetStatus{}.SwaggerDoc()["numberReady"]),
		api.Column("Up-to-date", "integer", appsv1.DaemonSetStatus{}.SwaggerDoc()["updatedNumberScheduled"]),
		api.Column("Available", "integer", appsv1.DaemonSetStatus{}.SwaggerDoc()["numberAvailable"]),
		api.Column("Node Selector", "string", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
		api.AgeColumn,
	}, containerColumns(appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"])),
	Cells: api.Print(func(ds *appsv1.DaemonSet, p api.PrintOptions) []any {
		s := ds.Status
		names, images := containerCells(ds.Spec.Template.Spec.Containers)
		return []any{
			ds.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady), int64(s.UpdatedNumberScheduled),
			int64(s.NumberAvailable), labels.FormatLabels(ds.Spec.Template.Spec.NodeSelector), api.Age(ds.CreationTimestamp, p),
			names, images, metav1.FormatLabelSelector(ds.Spec.Selector),
		}
	}),

	Status: &api.Status{
		PrepareUpdate: api.OnUpdate(func(n, o *appsv1.DaemonSet) {
			n.Spec = o.Spec
			generation, _ := templateGeneration(o)
			setTemplateGeneration(n, generation)
		}),
		ValidateUpdate: api.CheckUpdate(validateDaemonSetStatus),
	},
})

func defaultDaemonSet(ds *appsv1.DaemonSet) {
	if _, there := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; !there {
		setTemplateGeneration(ds, 0) // so that whoever writes owns it, as with upstream
	}
	s := &ds.Spec
	core.DefaultPodTemplate(&s.Template)
	if s.UpdateStrategy.Type == "" {
		s.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if s.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		setDefault(&s.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		setDefault(&s.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		setDefault(&s.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	if rolling := s.UpdateStrategy.RollingUpdate; rolling != nil { // with OnDelete, where it says nothing
		setDefault(&rolling.MaxUnavailable, intstr.FromInt32(0))
		setDefault(&rolling.MaxSurge, intstr.FromInt32(0))
	}
	setDefault(&s.RevisionHistoryLimit, 10)
}

// templateGeneration counts the changes of the template. It is in an annotation, but only the server writes it.
func templateGeneration(ds *appsv1.DaemonSet) (int64, error) {
	text, there := ds.Annotations[appsv1.DeprecatedTemplateGeneration]
	if !there {
		return 0, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

func setTemplateGeneration(ds *appsv1.DaemonSet, n int64) {
	metav1.SetMetaDataAnnotation(&ds.ObjectMeta, appsv1.DeprecatedTemplateGeneration, strconv.FormatInt(n, 10))
}

func templateChanged(n, o *appsv1.DaemonSet) bool {
	return !equality.Semantic.DeepEqual(n.Spec.Template, o.Spec.Template)
}

func validateDaemonSetUpdate(ds, old *appsv1.DaemonSet) (e check.Errors) {
	e.Unchanged(field.NewPath("spec", "selector"), ds.Spec.Selector, old.Spec.Selector)
	e.Add(validateDaemonSet(ds, old)...)
	return e
}

func validateDaemonSet(ds, old *appsv1.DaemonSet) (e check.Errors) {
	s, path := &ds.Spec, field.NewPath("spec")
	var template *corev1.PodTemplateSpec
	var bend metav1validation.LabelSelectorValidationOptions
	if old != nil {
		template = &old.Spec.Template
		bend.AllowInvalidLabelValueInSelector = metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	}
	e.Add(metav1validation.ValidateLabelSelector(s.Selector, bend, path.Child("selector"))...)
	if s.Selector != nil && len(s.Selector.MatchLabels)+len(s.Selector.MatchExpressions) == 0 {
		e.Invalid(path.Child("selector"), s.Selector, "empty selector is invalid for daemonset")
	}
	selector, err := metav1.LabelSelectorAsSelector(s.Selector)
	if err != nil {
		selector = labels.Everything() // it was complained of above
	}
	e.Add(core.ValidateReplicatedTemplate(&s.Template, template, selector, "DaemonSet", path.Child("template"))...)
	e.NonNegative(path.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if _, err := templateGeneration(ds); err != nil {
		at := field.NewPath("metadata", "annotations").Key(appsv1.DeprecatedTemplateGeneration)
		e.Invalid(at, ds.Annotations[appsv1.DeprecatedTemplateGeneration], err.Error())
	}
	e.Add(validateDaemonSetStrategy(&s.UpdateStrategy, path.Child("updateStrategy"))...)
	e.NonNegative(path.Child("revisionHistoryLimit"), int64(orZero(s.RevisionHistoryLimit)))
	return e
}

func validateDaemonSetStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) (e check.Errors) {
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		e.Add(field.NotSupported(path, s, []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType}))
		return e
	}
	if s.RollingUpdate == nil {
		e.Required(rolling, "")
		return e
	}
	unavailable, surge := value(s.RollingUpdate.MaxUnavailable), value(s.RollingUpdate.MaxSurge)
	e.IntOrPercent(rolling.Child("maxUnavailable"), unavailable)
	e.IntOrPercent(rolling.Child("maxSurge"), surge)
	e.AtMost100Percent(rolling.Child("maxUnavailable"), unavailable)
	e.AtMost100Percent(rolling.Child("maxSurge"), surge)
	switch down, up := check.AmountOf(unavailable) != 0, check.AmountOf(surge) != 0; {
	case down && up:
		e.Invalid(rolling.Child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero")
	case !down && !up:
		e.Required(rolling.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0")
	}
	return e
}

func validateDaemonSetStatus(ds, old *appsv1.DaemonSet) (e check.Errors) {
	s, path := &ds.Status, field.NewPath("status")
	nonNegative(&e, path, count{"currentNumberScheduled", int64(s.CurrentNumberScheduled)}, count{"numberMisscheduled", int64(s.NumberMisscheduled)},
		count{"desiredNumberScheduled", int64(s.DesiredNumberScheduled)}, count{"numberReady", int64(s.NumberReady)}, count{"observedGeneration", s.ObservedGeneration},
		count{"updatedNumberScheduled", int64(s.UpdatedNumberScheduled)}, count{"numberAvailable", int64(s.NumberAvailable)},
		count{"numberUnavailable", int64(s.NumberUnavailable)}, count{"collisionCount", int64(orZero(s.CollisionCount))})
	if decremented(s.CollisionCount, old.Status.CollisionCount) {
		e.Invalid(path.Child("collisionCount"), orZero(s.CollisionCount), "cannot be decremented")
	}
	return e
}

func daemonSetWarnings(ds, old *appsv1.DaemonSet) []string {
	if old != nil && !templateChanged(ds, old) {
		return nil
	}
	return core.TemplateWarnings(&ds.Spec.Template, templatePath)
}
