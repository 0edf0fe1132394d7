package storage

import (
	"math"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

const (
	maxMetadataSize = 256 << 10
	maxMessage      = 1024
)

// VolumeAttachments is the row of storage.k8s.io/v1 VolumeAttachment.
var VolumeAttachments = api.Register(&api.Resource{
	Group:        storagev1.GroupName,
	Name:         "volumeattachments",
	Singular:     "volumeattachment",
	Kind:         "VolumeAttachment",
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[storagev1.VolumeAttachment, storagev1.VolumeAttachmentList]("v1")},
	Prefix:       "volumeattachments",

	Default: api.On(func(a *storagev1.VolumeAttachment) {
		if s := a.Spec.Source.InlineVolumeSpec; s != nil {
			core.DefaultVolumeSpec(s)
		}
	}),
	PrepareCreate:  api.On(func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} }),
	PrepareUpdate:  api.OnUpdate(func(n, o *storagev1.VolumeAttachment) { n.Status = o.Status }),
	Validate:       api.Check(validateAttachment),
	ValidateUpdate: api.CheckUpdate(validateAttachmentUpdate),
	ReturnsDeleted: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		{Name: "Attacher", Type: "string", Format: "name", Description: storagev1.VolumeAttachmentSpec{}.SwaggerDoc()["attacher"]},
		api.Column("PV", "string", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]),
		api.Column("Node", "string", storagev1.VolumeAttachmentSpec{}.SwaggerDoc()["nodeName"]),
		api.Column("Attached", "boolean", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(a *storagev1.VolumeAttachment, p api.PrintOptions) []any {
		volume := ptr.Deref(a.Spec.Source.PersistentVolumeName, "")
		return []any{a.Name, a.Spec.Attacher, volume, a.Spec.NodeName, a.Status.Attached, api.Age(a.CreationTimestamp, p)}
	}),

	Status: &api.Status{
		MetaOnUpdate: "N",
		PrepareUpdate: api.OnUpdate(func(n, o *storagev1.VolumeAttachment) {
			n.Spec = o.Spec
			metav1.ResetObjectMetaForStatus(&n.ObjectMeta, &o.ObjectMeta)
		}),
		ValidateUpdate: api.CheckUpdate(validateAttachmentUpdate),
		ResetFields:    []string{"metadata", "spec"},
	},
})

func validateAttachmentUpdate(n, old *storagev1.VolumeAttachment) check.Errors {
	e := validateAttachment(n)
	e.Unchanged(field.NewPath("spec"), n.Spec, old.Spec)
	return e
}

func validateAttachment(a *storagev1.VolumeAttachment) (e check.Errors) {
	spec, status := field.NewPath("spec"), field.NewPath("status")
	e.Add(core.ValidateCSIDriverName(a.Spec.Attacher, spec.Child("attacher"))...)
	e.Add(validateSource(&a.Spec.Source, spec.Child("source"))...)
	e.Subdomain(spec.Child("nodeName"), a.Spec.NodeName)
	size := 0
	for key, value := range a.Status.AttachmentMetadata {
		size += len(key) + len(value)
	}
	if size > maxMetadataSize {
		e.TooLong(status.Child("attachmentMetadata"), maxMetadataSize)
	}
	e.Add(validateVolumeError(a.Status.AttachError, status.Child("attachError"))...)
	e.Add(validateVolumeError(a.Status.DetachError, status.Child("detachError"))...)
	if name := a.Spec.Source.PersistentVolumeName; name != nil {
		e.Subdomain(field.NewPath("spec.source.persistentVolumeName"), *name)
	}
	return e
}

func validateSource(s *storagev1.VolumeAttachmentSource, at *field.Path) (e check.Errors) {
	const rule = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch {
	case s.InlineVolumeSpec == nil && s.PersistentVolumeName == nil:
		e.Required(at, rule)
	case s.InlineVolumeSpec != nil && s.PersistentVolumeName != nil:
		e.Forbidden(at, rule)
	case s.InlineVolumeSpec != nil:
		e.Add(core.ValidateVolumeSpec(s.InlineVolumeSpec, "", true, false, at.Child("inlineVolumeSpec"))...)
	case *s.PersistentVolumeName == "":
		e.Required(at.Child("persistentVolumeName"), "must specify non empty persistentVolumeName")
	}
	return e
}

func validateVolumeError(v *storagev1.VolumeError, at *field.Path) (e check.Errors) {
	if v == nil {
		return nil
	}
	if len(v.Message) > maxMessage {
		e.TooLong(at.Child("message"), maxMetadataSize) // sic
	}
	if v.ErrorCode != nil && *v.ErrorCode < 0 {
		e.Invalid(at.Child("errorCode"), *v.ErrorCode, validation.InclusiveRangeError(0, math.MaxInt32))
	}
	return e
}
