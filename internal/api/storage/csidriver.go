package storage

import (
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// CSIDrivers is the row of storage.k8s.io/v1 CSIDriver.
var CSIDrivers = api.Register(&api.Resource{
	Group:    storagev1.GroupName,
	Name:     "csidrivers",
	Singular: "csidriver",
	Kind:     "CSIDriver",
	Versions: []api.Version{api.Serve[storagev1.CSIDriver, storagev1.CSIDriverList]("v1")},
	Prefix:   "csidrivers",

	Default:       api.On(defaultCSIDriver),
	PrepareCreate: api.On(func(d *storagev1.CSIDriver) { d.Spec.PreventPodSchedulingIfMissing = nil }), // off by default
	PrepareUpdate: api.OnUpdate(func(n, o *storagev1.CSIDriver) {
		if o.Spec.PreventPodSchedulingIfMissing == nil {
			n.Spec.PreventPodSchedulingIfMissing = nil
		}
		if !equality.Semantic.DeepEqual(n.Spec, o.Spec) {
			n.Generation = o.Generation + 1 // it starts at none, unlike other kinds'
		}
	}),
	Validate: api.Check(validateCSIDriver),
	ValidateUpdate: api.CheckUpdate(func(n, o *storagev1.CSIDriver) check.Errors {
		e := validateCSIDriver(n)
		e.Unchanged(field.NewPath("spec", "attachedRequired"), n.Spec.AttachRequired, o.Spec.AttachRequired) // sic
		e.Unchanged(field.NewPath("spec", "volumeLifecycleModes"), n.Spec.VolumeLifecycleModes, o.Spec.VolumeLifecycleModes)
		return e
	}),
	Warnings:       api.Warn(csiDriverWarnings),
	ReturnsDeleted: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("AttachRequired", "boolean", storagev1.CSIDriverSpec{}.SwaggerDoc()["attachRequired"]),
		api.Column("PodInfoOnMount", "boolean", storagev1.CSIDriverSpec{}.SwaggerDoc()["podInfoOnMount"]),
		api.Column("StorageCapacity", "boolean", storagev1.CSIDriverSpec{}.SwaggerDoc()["storageCapacity"]),
		api.Column("TokenRequests", "string", storagev1.CSIDriverSpec{}.SwaggerDoc()["tokenRequests"]),
		api.Column("RequiresRepublish", "boolean", storagev1.CSIDriverSpec{}.SwaggerDoc()["requiresRepublish"]),
		api.Column("Modes", "string", storagev1.CSIDriverSpec{}.SwaggerDoc()["volumeLifecycleModes"]),
		api.AgeColumn,
	},
	Cells: api.Print(csiDriverCells),
})

func defaultCSIDriver(d *storagev1.CSIDriver) {
	s := &d.Spec
	setDefault(&s.AttachRequired, true)
	setDefault(&s.PodInfoOnMount, false)
	setDefault(&s.StorageCapacity, false)
	setDefault(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	setDefault(&s.RequiresRepublish, false)
	setDefault(&s.SELinuxMount, false)
}

func csiDriverCells(d *storagev1.CSIDriver, p api.PrintOptions) []any {
	s := &d.Spec
	var modes, audiences []string
	for _, mode := range s.VolumeLifecycleModes {
		modes = append(modes, string(mode))
	}
	for _, r := range s.TokenRequests {
		audiences = append(audiences, r.Audience)
	}
	if s.TokenRequests == nil {
		audiences = []string{"<unset>"}
	}
	shown := strings.Join(modes, ",")
	if shown == "" {
		shown = "<none>"
	}
	return []any{
		d.Name, ptr.Deref(s.AttachRequired, true), ptr.Deref(s.PodInfoOnMount, false), ptr.Deref(s.StorageCapacity, false),
		strings.Join(audiences, ","), ptr.Deref(s.RequiresRepublish, false), shown, api.Age(d.CreationTimestamp, p),
	}
}

func csiDriverWarnings(d, old *storagev1.CSIDriver) []string {
	requests := d.Spec.TokenRequests
	if len(requests) == 0 || d.Spec.ServiceAccountTokenInSecrets != nil || old != nil && equality.Semantic.DeepEqual(requests, old.Spec.TokenRequests) {
		return nil
	}
	return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
}

func validateCSIDriver(d *storagev1.CSIDriver) (e check.Errors) {
	s, at := &d.Spec, field.NewPath("spec")
	for _, required := range []struct {
		name string
		flag *bool
	}{{"attachedRequired", s.AttachRequired}, {"podInfoOnMount", s.PodInfoOnMount}, {"storageCapacity", s.StorageCapacity}} { // sic
		if required.flag == nil {
			e.Required(at.Child(required.name), "")
		}
	}
	if s.FSGroupPolicy != nil {
		check.OneOf(&e, at.Child("fsGroupPolicy"), *s.FSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	}
	e.Add(validateTokenRequests(s.TokenRequests, at.Child("tokenRequests"))...)
	for _, mode := range s.VolumeLifecycleModes {
		check.OneOf(&e, at.Child("volumeLifecycleModes"), mode, storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)
	}
	if s.SELinuxMount == nil {
		e.Required(at.Child("seLinuxMount"), "")
	}
	if period := s.NodeAllocatableUpdatePeriodSeconds; period != nil && *period < 10 {
		e.Invalid(at.Child("nodeAllocatableUpdatePeriodSeconds"), *period, "must be greater than or equal to 10 seconds")
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		e.Invalid(at.Child("serviceAccountTokenInSecrets"), s.ServiceAccountTokenInSecrets, "serviceAccountTokenInSecrets is set but no tokenRequests are specified")
	}
	return e
}

func validateTokenRequests(requests []storagev1.TokenRequest, at *field.Path) (e check.Errors) {
	seen := map[string]bool{}
	for i, r := range requests {
		if seen[r.Audience] {
			e.Duplicate(at.Index(i).Child("audience"), r.Audience)
			continue
		}
		seen[r.Audience] = true
		switch seconds := r.ExpirationSeconds; {
		case seconds == nil:
		case *seconds < 600:
			e.Invalid(at.Index(i).Child("expirationSeconds"), *seconds, "may not specify a duration less than 10 minutes")
		case *seconds > 1<<32:
			e.Invalid(at.Index(i).Child("expirationSeconds"), *seconds, "may not specify a duration larger than 2^32 seconds")
		}
	}
	return e
}
