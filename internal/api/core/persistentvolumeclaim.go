package core

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// PersistentVolumeClaims is the row of core/v1 PersistentVolumeClaim.
var PersistentVolumeClaims = api.Register(&api.Resource{
	Name:         "persistentvolumeclaims",
	Singular:     "persistentvolumeclaim",
	Kind:         "PersistentVolumeClaim",
	ShortNames:   []string{"pvc"},
	Namespaced:   true,
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList]("v1")},
	Prefix:       "persistentvolumeclaims",

	Default: api.On(DefaultClaim),
	Renew:   api.On(func(c *corev1.PersistentVolumeClaim) { normalizeSources(&c.Spec) }),
	PrepareCreate: api.On(func(c *corev1.PersistentVolumeClaim) {
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
		prepareSources(&c.Spec, nil)
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *corev1.PersistentVolumeClaim) {
		n.Status = o.Status
		prepareSources(&n.Spec, &o.Spec)
	}),
	Validate: api.Check(func(c *corev1.PersistentVolumeClaim) check.Errors {
		return validateClaimSpec(&c.Spec, field.NewPath("spec"), claimOptions{})
	}),
	ValidateUpdate:           api.CheckUpdate(validateClaimUpdate),
	Warnings:                 api.Warn(claimWarnings),
	AllowUnconditionalUpdate: true,
	ReturnsDeleted:           true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Status", "string", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["phase"]),
		api.Column("Volume", "string", corev1.PersistentVolumeClaimSpec{}.SwaggerDoc()["volumeName"]),
		api.Column("Capacity", "string", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["capacity"]),
		api.Column("Access Modes", "string", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["accessModes"]),
		api.Column("StorageClass", "string", "StorageClass of the pvc"),
		api.Column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc"),
		api.AgeColumn,
		api.WideColumn("VolumeMode", "string", corev1.PersistentVolumeClaimSpec{}.SwaggerDoc()["volumeMode"]),
	},
	Cells: api.Print(claimCells),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *corev1.PersistentVolumeClaim) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckSame(validateClaimStatus),
	},
})

// DefaultClaim completes a claim, or the template of one in a StatefulSet.
func DefaultClaim(c *corev1.PersistentVolumeClaim) {
	setString(&c.Status.Phase, corev1.ClaimPending)
	defaultClaimSpec(&c.Spec)
	roundUp(c.Status.Capacity)
	roundUp(c.Status.AllocatedResources)
}

// prepareSources drops sources that nothing can fill a volume from, as they always were, and makes the two ways of naming one agree.
func prepareSources(s, old *corev1.PersistentVolumeClaimSpec) {
	if r := s.DataSourceRef; r != nil && ptr.Deref(r.Namespace, "") != "" && (old == nil || old.DataSourceRef == nil) {
		s.DataSourceRef = nil // the gate CrossNamespaceVolumeDataSource is off
	}
	used := old != nil && (old.DataSource != nil || old.DataSourceRef != nil)
	if d := s.DataSource; d != nil && !used && s.DataSourceRef == nil {
		group := ptr.Deref(d.APIGroup, "")
		if !(d.Kind == "PersistentVolumeClaim" && group == "" || d.Kind == "VolumeSnapshot" && group == "snapshot.storage.k8s.io") {
			s.DataSource = nil
		}
	}
	normalizeSources(s)
}

func normalizeSources(s *corev1.PersistentVolumeClaimSpec) {
	d, r := s.DataSource, s.DataSourceRef
	switch {
	case d != nil && r == nil:
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: d.APIGroup, Kind: d.Kind, Name: d.Name}
	case d == nil && r != nil && ptr.Deref(r.Namespace, "") == "":
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: r.APIGroup, Kind: r.Kind, Name: r.Name}
	}
}

// validateClaimUpdate lets a bound claim grow and change its attributes, and an unbound one be bound.
func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) (e check.Errors) {
	badGroup := old.Spec.DataSource != nil && old.Spec.DataSource.APIGroup != nil || old.Spec.DataSourceRef != nil && old.Spec.DataSourceRef.APIGroup != nil
	e.Add(validateClaimSpec(&c.Spec, field.NewPath("spec"), claimOptions{badSelectorValue: !validSelector(old.Spec.Selector), badSourceGroup: badGroup})...)
	now, before := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	normalizeSources(before)
	if before.VolumeName == "" {
		before.VolumeName = now.VolumeName
	}
	annotation, annotated := old.Annotations[corev1.BetaStorageClassAnnotation]
	newAnnotation, stillAnnotated := c.Annotations[corev1.BetaStorageClassAnnotation]
	if annotated && before.StorageClassName == nil && now.StorageClassName != nil && *now.StorageClassName == annotation &&
		(!stillAnnotated || newAnnotation == annotation) {
		now.StorageClassName = nil // moved from the annotation to its field
	} else {
		if newAnnotation != annotation {
			e.Invalid(field.NewPath("metadata", "annotations", corev1.BetaStorageClassAnnotation), newAnnotation, check.Immutable)
		}
		if now.StorageClassName != nil && before.StorageClassName == nil && (!annotated || *now.StorageClassName == annotation) {
			now.StorageClassName = nil // a class assigned later
		}
	}
	if c.Status.Phase == corev1.ClaimBound {
		if now.Resources.Requests != nil {
			now.Resources.Requests[corev1.ResourceStorage] = before.Resources.Requests[corev1.ResourceStorage]
		}
		now.VolumeAttributesClassName = before.VolumeAttributesClassName
	}
	if !equality.Semantic.DeepEqual(*now, *before) {
		e.Forbidden(field.NewPath("spec"), fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(*before, *now)))
	}
	e.Add(validateClaimSize(c, old)...)
	e.Unchanged(field.NewPath("volumeMode"), c.Spec.VolumeMode, old.Spec.VolumeMode)
	if class, at := c.Spec.VolumeAttributesClassName, field.NewPath("spec", "volumeAttributesClassName"); !ptr.Equal(class, old.Spec.VolumeAttributesClassName) && old.Status.CurrentVolumeAttributesClassName != nil {
		if class == nil {
			e.Forbidden(at, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil")
		} else if *class == "" {
			e.Forbidden(at, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil")
		}
	}
	return e
}

// validateClaimSize lets a wish for growth be taken back, down to what there is already.
func validateClaimSize(c, old *corev1.PersistentVolumeClaim) (e check.Errors) {
	size, before, have := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage], old.Status.Capacity[corev1.ResourceStorage]
	if size.Cmp(before) < 0 && size.Cmp(have) <= 0 {
		e.Forbidden(field.NewPath("spec", "resources", "requests", "storage"), "field can not be less than status.capacity")
	}
	return e
}

// resizeStates are in alphabetical order.
var resizeStates = []corev1.ClaimResourceStatus{
	corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
	corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible, corev1.PersistentVolumeClaimNodeResizePending,
}

func validateClaimStatus(c *corev1.PersistentVolumeClaim) (e check.Errors) {
	e.NonEmpty(field.NewPath("resourceVersion"), c.ResourceVersion)
	if len(c.Spec.AccessModes) == 0 {
		e.Required(field.NewPath("Spec", "accessModes"), "")
	}
	status := field.NewPath("status")
	for _, name := range sortedNames(c.Status.Capacity) {
		e.Add(validateBasicQuantity(c.Status.Capacity[name], status.Child("capacity").Key(string(name)))...)
	}
	at := status.Child("allocatedResourceStatuses")
	for _, name := range slices.Sorted(maps.Keys(c.Status.AllocatedResourceStatuses)) {
		e.Add(validateClaimResource(name, at)...)
		if !slices.Contains(resizeStates, c.Status.AllocatedResourceStatuses[name]) {
			e.Add(field.NotSupported(at, name, slices.Sorted(slices.Values(resizeStates))))
		}
	}
	at = status.Child("allocatedResources")
	for _, name := range sortedNames(c.Status.AllocatedResources) {
		if errs := validateClaimResource(name, at); len(errs) > 0 {
			e.Add(errs...)
			continue
		}
		q := c.Status.AllocatedResources[name]
		if errs := validateBasicQuantity(q, at.Key(string(name))); len(errs) > 0 {
			e.Add(errs...)
		} else {
			e.Add(validateQuantity(corev1.ResourceStorage, q, at.Key(string(name)))...)
		}
	}
	return e
}

func validateClaimResource(name corev1.ResourceName, path *field.Path) (e check.Errors) {
	if msgs := validation.IsQualifiedName(string(name)); len(msgs) > 0 {
		e.Messages(path, string(name), msgs)
		return e
	}
	if isNative(name) && name != corev1.ResourceStorage {
		e.Add(field.NotSupported(path, string(name), []corev1.ResourceName{corev1.ResourceStorage}))
	}
	return e
}

func claimWarnings(c, _ *corev1.PersistentVolumeClaim) []string {
	w := &warner{}
	if _, there := c.Annotations[corev1.BetaStorageClassAnnotation]; there {
		w.at(field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation), `deprecated since v1.8; use "storageClassName" attribute instead`)
	}
	w.claim(&c.Spec, field.NewPath("spec"))
	return w.texts
}

func claimCells(c *corev1.PersistentVolumeClaim, p api.PrintOptions) []any {
	phase := string(c.Status.Phase)
	if c.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	capacity, modes := "", ""
	if c.Spec.VolumeName != "" {
		size := c.Status.Capacity[corev1.ResourceStorage]
		capacity, modes = size.String(), printModes(c.Status.AccessModes)
	}
	class := ptr.Deref(c.Spec.StorageClassName, "")
	if annotated, there := c.Annotations[corev1.BetaStorageClassAnnotation]; there {
		class = annotated
	}
	return []any{
		c.Name, phase, c.Spec.VolumeName, capacity, modes, class, ptr.Deref(c.Spec.VolumeAttributesClassName, "<unset>"),
		api.Age(c.CreationTimestamp, p), string(ptr.Deref(c.Spec.VolumeMode, "<unset>")),
	}
}
