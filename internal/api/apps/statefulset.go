package apps

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// StatefulSets is the row of apps/v1 StatefulSet.
var StatefulSets = api.Register(&api.Resource{
	Group:      appsv1.GroupName,
	Name:       "statefulsets",
	Singular:   "statefulset",
	Kind:       "StatefulSet",
	ShortNames: []string{"sts"},
	Categories: []string{"all"},
	Namespaced: true,
	Versions:   []api.Version{api.Serve[appsv1.StatefulSet, appsv1.StatefulSetList]("v1")},
	Prefix:     "statefulsets",

	NameRule: apivalidation.NameIsDNSLabel,
	Default:  api.On(defaultStatefulSet),
	Restore:  api.On(typeClaims),
	PrepareCreate: api.On(func(s *appsv1.StatefulSet) {
		s.Status = appsv1.StatefulSetStatus{}
		dropMaxUnavailable(s, nil)
		core.DropDisabledTemplateFields(&s.Spec.Template, nil)
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *appsv1.StatefulSet) {
		n.Status = o.Status
		dropMaxUnavailable(n, o)
		core.DropDisabledTemplateFields(&n.Spec.Template, &o.Spec.Template)
	}),
	Validate: api.Check(func(s *appsv1.StatefulSet) check.Errors {
		return validateStatefulSetSpec(&s.Spec, statefulSetOptions{new: true})
	}),
	ValidateUpdate:           api.CheckUpdate(validateStatefulSetUpdate),
	Warnings:                 api.Warn(statefulSetWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		a, b := n.(*appsv1.StatefulSet), o.(*appsv1.StatefulSet)
		return changed(a.Spec, b.Spec, &a.ObjectMeta, &b.ObjectMeta, false)
	},

	Empty: api.On(func(o *appsv1.StatefulSet) { o.Spec.Replicas = new(int32) }),
	Columns: slices.Concat([]metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Ready", "string", "Number of the pod with ready state"),
		api.AgeColumn,
	}, containerColumns("")),
	Cells: api.Print(func(s *appsv1.StatefulSet, p api.PrintOptions) []any {
		names, images := containerCells(s.Spec.Template.Spec.Containers)
		return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, orZero(s.Spec.Replicas)), api.Age(s.CreationTimestamp, p), names, images}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *appsv1.StatefulSet) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckUpdate(validateStatefulSetStatus),
	},
	Scale: &api.Scale{
		Get: func(o api.Object) (int32, int32, string, error) {
			s := o.(*appsv1.StatefulSet)
			selector, err := selectorText(s.Spec.Selector)
			return orZero(s.Spec.Replicas), s.Status.Replicas, selector, err
		},
		Set:          func(o api.Object, n int32) { o.(*appsv1.StatefulSet).Spec.Replicas = &n },
		ReplicasPath: "spec.replicas",
	},
})

// typeClaims names the kind of what is a whole object within another.
func typeClaims(set *appsv1.StatefulSet) {
	for i := range set.Spec.VolumeClaimTemplates {
		set.Spec.VolumeClaimTemplates[i].TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
	}
}

func defaultStatefulSet(set *appsv1.StatefulSet) {
	typeClaims(set)
	s := &set.Spec
	core.DefaultPodTemplate(&s.Template)
	for i := range s.VolumeClaimTemplates {
		c := &s.VolumeClaimTemplates[i]
		core.DefaultClaim(c)
	}
	if s.PodManagementPolicy == "" {
		s.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	if s.UpdateStrategy.Type == "" {
		s.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		setDefault(&s.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	}
	if rolling := s.UpdateStrategy.RollingUpdate; rolling != nil {
		setDefault(&rolling.Partition, 0)
	}
	setDefault(&s.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	if retention := s.PersistentVolumeClaimRetentionPolicy; retention.WhenDeleted == "" {
		retention.WhenDeleted = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if retention := s.PersistentVolumeClaimRetentionPolicy; retention.WhenScaled == "" {
		retention.WhenScaled = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	setDefault(&s.Replicas, 1)
	setDefault(&s.RevisionHistoryLimit, 10)
}

// dropMaxUnavailable removes a field that is off by default, except where the object has it already.
func dropMaxUnavailable(s, old *appsv1.StatefulSet) {
	uses := func(s *appsv1.StatefulSet) bool {
		return s != nil && s.Spec.UpdateStrategy.RollingUpdate != nil && s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable != nil
	}
	if uses(s) && !uses(old) {
		s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = nil
	}
}

func validateStatefulSetUpdate(s, old *appsv1.StatefulSet) check.Errors {
	opts := statefulSetOptions{oldTemplate: &old.Spec.Template}
	opts.skipTemplate = len(validateStatefulSetSpec(&old.Spec, opts)) > 0
	e := validateStatefulSetSpec(&s.Spec, opts)
	fixed := s.Spec
	fixed.Replicas, fixed.Template, fixed.UpdateStrategy, fixed.MinReadySeconds = old.Spec.Replicas, old.Spec.Template, old.Spec.UpdateStrategy, old.Spec.MinReadySeconds
	fixed.Ordinals, fixed.RevisionHistoryLimit = old.Spec.Ordinals, old.Spec.RevisionHistoryLimit
	fixed.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !equality.Semantic.DeepEqual(fixed, old.Spec) {
		e.Forbidden(field.NewPath("spec"), "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")
	}
	return e
}

// statefulSetOptions say where the validation of an update bends, since what is immutable can't be corrected.
type statefulSetOptions struct {
	new          bool
	oldTemplate  *corev1.PodTemplateSpec
	skipTemplate bool
}

func validateStatefulSetSpec(s *appsv1.StatefulSetSpec, opts statefulSetOptions) (e check.Errors) {
	path := field.NewPath("spec")
	switch s.PodManagementPolicy {
	case "":
		e.Required(path.Child("podManagementPolicy"), "")
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		e.Invalid(path.Child("podManagementPolicy"), s.PodManagementPolicy, "must be 'OrderedReady' or 'Parallel'")
	}
	e.Add(validateStatefulSetStrategy(&s.UpdateStrategy, path.Child("updateStrategy"))...)
	if retention := s.PersistentVolumeClaimRetentionPolicy; retention != nil {
		at := path.Child("persistentVolumeClaimRetentionPolicy")
		e.Add(validateRetention(retention.WhenDeleted, at.Child("whenDeleted"))...)
		e.Add(validateRetention(retention.WhenScaled, at.Child("whenScaled"))...)
	}
	if opts.new {
		for i := range s.VolumeClaimTemplates {
			e.Add(core.ValidateClaimTemplate(&s.VolumeClaimTemplates[i], path.Child("volumeClaimTemplates").Index(i))...)
		}
	}
	nonNegative(&e, path, count{"replicas", int64(orZero(s.Replicas))}, count{"minReadySeconds", int64(s.MinReadySeconds)})
	if s.Ordinals != nil {
		e.NonNegative(path.Child("ordinals.start"), int64(s.Ordinals.Start))
	}
	if opts.new && s.ServiceName != "" {
		e.Label(path.Child("serviceName"), s.ServiceName)
	}
	e.Add(validateStatefulSetTemplate(s, path, opts)...)
	if policy := s.Template.Spec.RestartPolicy; policy != corev1.RestartPolicyAlways {
		e.Add(field.NotSupported(path.Child("template", "spec", "restartPolicy"), policy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if s.Template.Spec.ActiveDeadlineSeconds != nil {
		e.Forbidden(path.Child("template", "spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in StatefulSet is not Supported")
	}
	return e
}

func validateStatefulSetStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) (e check.Errors) {
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case "":
		e.Required(path, "")
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			e.Invalid(rolling, s.RollingUpdate, "only allowed for updateStrategy 'RollingUpdate'")
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if s.RollingUpdate == nil {
			break
		}
		e.NonNegative(rolling.Child("partition"), int64(orZero(s.RollingUpdate.Partition)))
		if most := s.RollingUpdate.MaxUnavailable; most != nil {
			at := rolling.Child("maxUnavailable")
			e.IntOrPercent(at, *most)
			if check.AmountOf(*most) == 0 {
				e.Invalid(at, *most, "cannot be 0")
			}
			e.AtMost100Percent(at, *most)
		}
	default:
		e.Invalid(path, s, "must be 'RollingUpdate' or 'OnDelete'")
	}
	return e
}

func validateRetention(policy appsv1.PersistentVolumeClaimRetentionPolicyType, path *field.Path) (e check.Errors) {
	supported := []appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType}
	if !slices.Contains(supported, policy) {
		e.Add(field.NotSupported(path, policy, supported))
	}
	return e
}

// validateStatefulSetTemplate checks the selector, and the template as the pods will have it: with a volume of each claim.
func validateStatefulSetTemplate(s *appsv1.StatefulSetSpec, path *field.Path, opts statefulSetOptions) (e check.Errors) {
	if s.Selector == nil {
		e.Required(path.Child("selector"), "")
	} else {
		e.Add(metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
		if len(s.Selector.MatchLabels)+len(s.Selector.MatchExpressions) == 0 {
			e.Invalid(path.Child("selector"), s.Selector, "empty selector is invalid for statefulset")
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s.Selector)
	if err != nil {
		e.Invalid(path.Child("selector"), s.Selector, "")
		return e
	}
	path = path.Child("template")
	if !selector.Empty() && !selector.Matches(labels.Set(s.Template.Labels)) {
		e.Invalid(path.Child("metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`")
	}
	template := asOfPods(s)
	if !opts.skipTemplate {
		e.Add(core.ValidatePodTemplate(template, opts.oldTemplate, path)...)
	}
	e.Add(core.ValidateTemplateMeta(template, opts.oldTemplate, path)...)
	return e
}

// asOfPods is the template with what the controller sets in each pod: volumes of the claims, and names.
func asOfPods(s *appsv1.StatefulSetSpec) *corev1.PodTemplateSpec {
	t := s.Template
	t.Spec.Subdomain, t.Spec.Hostname = "", ""
	if len(s.VolumeClaimTemplates) == 0 {
		return &t
	}
	t.Spec.Volumes = nil
	added := map[string]bool{}
	for _, c := range s.VolumeClaimTemplates {
		if added[c.Name] {
			continue
		}
		added[c.Name] = true
		source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name}}
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: c.Name, VolumeSource: source})
	}
	for _, v := range s.Template.Spec.Volumes {
		if !added[v.Name] {
			t.Spec.Volumes = append(t.Spec.Volumes, v)
		}
	}
	return &t
}

func validateStatefulSetStatus(set, old *appsv1.StatefulSet) (e check.Errors) {
	s, path := &set.Status, field.NewPath("status")
	ready, available := count{"readyReplicas", int64(s.ReadyReplicas)}, count{"availableReplicas", int64(s.AvailableReplicas)}
	current, updated := count{"currentReplicas", int64(s.CurrentReplicas)}, count{"updatedReplicas", int64(s.UpdatedReplicas)}
	nonNegative(&e, path, count{"replicas", int64(s.Replicas)}, ready, current, updated, available,
		count{"observedGeneration", s.ObservedGeneration}, count{"collisionCount", int64(orZero(s.CollisionCount))})
	notMoreThan(&e, path, s.Replicas, "cannot be greater than status.replicas", ready, current, updated, available)
	notMoreThan(&e, path, s.ReadyReplicas, "cannot be greater than status.readyReplicas", available)
	if decremented(s.CollisionCount, old.Status.CollisionCount) {
		e.Invalid(path.Child("collisionCount"), orZero(s.CollisionCount), "cannot be decremented")
	}
	return e
}

func statefulSetWarnings(s, old *appsv1.StatefulSet) (warnings []string) {
	claims := field.NewPath("spec", "volumeClaimTemplates")
	if old == nil || changed(s.Spec, old.Spec, &s.ObjectMeta, &old.ObjectMeta, false) {
		warnings = core.TemplateWarnings(&s.Spec.Template, templatePath)
	}
	for i := range s.Spec.VolumeClaimTemplates {
		at := claims.Index(i)
		if old != nil {
			at = at.Child("Spec") // sic
		}
		warnings = append(warnings, core.ClaimTemplateWarnings(&s.Spec.VolumeClaimTemplates[i], at)...)
	}
	if orZero(s.Spec.RevisionHistoryLimit) < 0 {
		warnings = append(warnings, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return warnings
}
