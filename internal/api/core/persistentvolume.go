package core

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// PersistentVolumes is the row of core/v1 PersistentVolume.
var PersistentVolumes = api.Register(&api.Resource{
	Name:         "persistentvolumes",
	Singular:     "persistentvolume",
	Kind:         "PersistentVolume",
	ShortNames:   []string{"pv"},
	MetaOnUpdate: "NN",
	Versions:     []api.Version{api.Serve[corev1.PersistentVolume, corev1.PersistentVolumeList]("v1")},
	Prefix:       "persistentvolumes",

	Default: api.On(defaultPersistentVolume),
	PrepareCreate: api.On(func(v *corev1.PersistentVolume) {
		v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: new(metav1.Now())}
	}),
	PrepareUpdate:            api.OnUpdate(func(n, o *corev1.PersistentVolume) { n.Status = o.Status }),
	Validate:                 api.Check(func(v *corev1.PersistentVolume) check.Errors { return validatePersistentVolume(v, nil) }),
	ValidateUpdate:           api.CheckUpdate(validatePersistentVolumeUpdate),
	Warnings:                 api.Warn(persistentVolumeWarnings),
	AllowUnconditionalUpdate: true,
	ReturnsDeleted:           true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Capacity", "string", volumeDoc["capacity"]),
		api.Column("Access Modes", "string", volumeDoc["accessModes"]),
		api.Column("Reclaim Policy", "string", volumeDoc["persistentVolumeReclaimPolicy"]),
		api.Column("Status", "string", corev1.PersistentVolumeStatus{}.SwaggerDoc()["phase"]),
		api.Column("Claim", "string", volumeDoc["claimRef"]),
		api.Column("StorageClass", "string", "StorageClass of the pv"),
		api.Column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv"),
		api.Column("Reason", "string", corev1.PersistentVolumeStatus{}.SwaggerDoc()["reason"]),
		api.AgeColumn,
		api.WideColumn("VolumeMode", "string", volumeDoc["volumeMode"]),
	},
	Cells: api.Print(persistentVolumeCells),

	Status: &api.Status{
		PrepareUpdate: api.OnUpdate(prepareVolumeStatus),
		ValidateUpdate: api.CheckSame(func(v *corev1.PersistentVolume) (e check.Errors) {
			e.NonEmpty(field.NewPath("resourceVersion"), v.ResourceVersion)
			return e
		}),
	},
})

var volumeDoc = corev1.PersistentVolumeSpec{}.SwaggerDoc()

func defaultPersistentVolume(v *corev1.PersistentVolume) {
	setString(&v.Status.Phase, corev1.VolumePending)
	setString(&v.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	set(&v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	DefaultVolumeSpec(&v.Spec)
}

// DefaultVolumeSpec sets the defaults that a volume also has where it stands inline in a VolumeAttachment.
func DefaultVolumeSpec(spec *corev1.PersistentVolumeSpec) {
	roundUp(spec.Capacity)
	s := &spec.PersistentVolumeSource
	if s.HostPath != nil {
		set(&s.HostPath.Type, corev1.HostPathUnset)
	}
	if s.RBD != nil {
		setString(&s.RBD.RBDPool, "rbd")
		setString(&s.RBD.RadosUser, "admin")
		setString(&s.RBD.Keyring, "/etc/ceph/keyring")
	}
	if s.ISCSI != nil {
		setString(&s.ISCSI.ISCSIInterface, "default")
	}
	defaultAzureDisk(s.AzureDisk)
	if s.ScaleIO != nil {
		setString(&s.ScaleIO.StorageMode, "ThinProvisioned")
		setString(&s.ScaleIO.FSType, "xfs")
	}
}

// prepareVolumeStatus notes when the phase changes, unless the client did.
func prepareVolumeStatus(v, old *corev1.PersistentVolume) {
	v.Spec = old.Spec
	before, now := old.Status.LastPhaseTransitionTime, &v.Status.LastPhaseTransitionTime
	switch {
	case old.Status.Phase == v.Status.Phase && *now == nil:
		*now = before
	case old.Status.Phase != v.Status.Phase && (*now == nil || (*now).Equal(before)):
		*now = new(metav1.Now())
	}
}

// validatePersistentVolume checks a volume; old is nil on creation.
func validatePersistentVolume(v, old *corev1.PersistentVolume) (e check.Errors) {
	spec := field.NewPath("spec")
	e.Add(ValidateVolumeSpec(&v.Spec, v.Name, false, old != nil && badNodeAffinity(old), spec)...)
	if _, there := v.Annotations[corev1.MountOptionAnnotation]; there && !takesMountOptions(&v.Spec.PersistentVolumeSource) {
		e.Forbidden(field.NewPath("metadata", "annotations", corev1.MountOptionAnnotation), "may not specify mount options for this volume type")
	}
	return e
}

// takesMountOptions tells whether a kind of volume reads the annotation with mount options.
func takesMountOptions(s *corev1.PersistentVolumeSource) bool {
	return s.GCEPersistentDisk != nil || s.AWSElasticBlockStore != nil || s.Glusterfs != nil || s.NFS != nil || s.RBD != nil || s.Quobyte != nil ||
		s.ISCSI != nil || s.Cinder != nil || s.CephFS != nil || s.AzureFile != nil || s.VsphereVolume != nil || s.AzureDisk != nil || s.PhotonPersistentDisk != nil
}

func badNodeAffinity(v *corev1.PersistentVolume) bool {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return false
	}
	return len(ValidateNodeSelector(v.Spec.NodeAffinity.Required, false, nil)) > len(ValidateNodeSelector(v.Spec.NodeAffinity.Required, true, nil))
}

// ValidateVolumeSpec checks the spec of a volume. An inline one stands in a VolumeAttachment: it is a CSI volume without the life of its own.
func ValidateVolumeSpec(s *corev1.PersistentVolumeSpec, name string, inline, badAffinity bool, at *field.Path) (e check.Errors) {
	const context = "in the context of inline volumes"
	if inline {
		if s.ClaimRef != nil {
			e.Forbidden(at.Child("claimRef"), "may not be specified "+context)
		}
		if len(s.Capacity) != 0 {
			e.Forbidden(at.Child("capacity"), "may not be specified "+context)
		}
		if s.CSI == nil {
			e.Required(at.Child("csi"), "has to be specified "+context)
		}
	}
	if len(s.AccessModes) == 0 {
		e.Required(at.Child("accessModes"), "")
	}
	e.Add(validateAccessModes(s.AccessModes, at.Child("accessModes"))...)
	if !inline {
		e.Add(validateCapacity(s.Capacity, at.Child("capacity"))...)
	}
	reclaim := at.Child("persistentVolumeReclaimPolicy")
	switch {
	case s.PersistentVolumeReclaimPolicy == "":
	case !inline:
		check.OneOf(&e, reclaim, s.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)
	case s.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain:
		e.Forbidden(reclaim, "may only be Retain "+context)
	}
	if s.NodeAffinity != nil {
		switch {
		case inline:
			e.Forbidden(at.Child("nodeAffinity"), "may not be specified "+context)
		case s.NodeAffinity.Required == nil:
			e.Required(at.Child("nodeAffinity", "required"), "must specify required node constraints")
		default:
			e.Add(ValidateNodeSelector(s.NodeAffinity.Required, badAffinity, at.Child("nodeAffinity", "required"))...)
		}
	}
	e.Add(validateVolumeKind(s, name, inline, at)...)
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		e.Forbidden(reclaim, "may not be 'recycle' for a hostPath mount of '/'")
	}
	e.Add(validateVolumeClasses(s, inline, at)...)
	return e
}

func validateCapacity(list corev1.ResourceList, at *field.Path) (e check.Errors) {
	if len(list) == 0 {
		e.Required(at, "")
	}
	if _, there := list[corev1.ResourceStorage]; !there || len(list) > 1 {
		e.Add(field.NotSupported(at, list, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for _, name := range sortedNames(list) {
		e.Add(validateBasicQuantity(list[name], at.Key(string(name)))...)
		e.Add(ValidatePositiveQuantity(list[name], at.Key(string(name)))...)
	}
	return e
}

func validateVolumeClasses(s *corev1.PersistentVolumeSpec, inline bool, at *field.Path) (e check.Errors) {
	const context = "in the context of inline volumes"
	if s.StorageClassName != "" {
		if inline {
			e.Forbidden(at.Child("storageClassName"), "may not be specified "+context)
		} else {
			e.Messages(at.Child("storageClassName"), s.StorageClassName, apivalidation.NameIsDNSSubdomain(s.StorageClassName, false))
		}
	}
	if m := s.VolumeMode; m != nil {
		if !inline {
			check.OneOf(&e, at.Child("volumeMode"), *m, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
		} else if *m != corev1.PersistentVolumeFilesystem {
			e.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than Filesystem "+context)
		}
	}
	if class := s.VolumeAttributesClassName; class != nil && !inline {
		if *class == "" {
			e.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed")
		} else {
			e.Messages(at.Child("volumeAttributesClassName"), *class, apivalidation.NameIsDNSSubdomain(*class, false))
		}
		if s.CSI == nil {
			e.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName")
		}
	}
	return e
}

func validatePersistentVolumeUpdate(v, old *corev1.PersistentVolume) (e check.Errors) {
	e.Add(validatePersistentVolume(v, old)...)
	e.Add(ValidateVolumeSpec(&v.Spec, v.Name, false, badNodeAffinity(old), field.NewPath("spec"))...) // upstream's strategy and its update rules both do
	source := v.Spec.PersistentVolumeSource
	// The secret for growing may be added later.
	if now, before := source.CSI, old.Spec.CSI; before != nil && before.ControllerExpandSecretRef == nil && now != nil && now.ControllerExpandSecretRef != nil {
		source.CSI = now.DeepCopy()
		source.CSI.ControllerExpandSecretRef = nil
	}
	if !equality.Semantic.DeepEqual(source, old.Spec.PersistentVolumeSource) {
		e.Forbidden(field.NewPath("spec", "persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(old.Spec.PersistentVolumeSource, source)))
	}
	e.Unchanged(field.NewPath("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)
	if old.Spec.NodeAffinity != nil && !sameVolumeAffinity(v.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		e.Invalid(field.NewPath("nodeAffinity"), v.Spec.NodeAffinity, check.Immutable+", except for updating from beta label to GA")
	}
	if old.Spec.VolumeAttributesClassName != nil && v.Spec.VolumeAttributesClassName == nil {
		e.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden")
	}
	return e
}

// The labels that replaced those of the beta.
var renamedLabels = map[string]string{
	corev1.LabelFailureDomainBetaZone:   corev1.LabelTopologyZone,
	corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	"beta.kubernetes.io/os":             corev1.LabelOSStable,
	"beta.kubernetes.io/arch":           corev1.LabelArchStable,
	corev1.LabelInstanceType:            corev1.LabelInstanceTypeStable,
}

// sameVolumeAffinity compares as if old names of labels were the new ones where the new object uses those.
func sameVolumeAffinity(now, before *corev1.VolumeNodeAffinity) bool {
	if now == nil || now.Required == nil || before.Required == nil {
		return equality.Semantic.DeepEqual(now, before)
	}
	renamed := before.DeepCopy()
	for i := range renamed.Required.NodeSelectorTerms {
		if i == len(now.Required.NodeSelectorTerms) {
			return false
		}
		rename := func(old, new []corev1.NodeSelectorRequirement) {
			for j := range min(len(old), len(new)) {
				if renamedLabels[old[j].Key] == new[j].Key { // as with upstream, any other may become empty
					old[j].Key = new[j].Key
				}
			}
		}
		o, n := &renamed.Required.NodeSelectorTerms[i], &now.Required.NodeSelectorTerms[i]
		rename(o.MatchExpressions, n.MatchExpressions)
		rename(o.MatchFields, n.MatchFields)
	}
	return equality.Semantic.DeepEqual(now, renamed)
}

// The short names of access modes, in the order in which they are printed.
var shortModes = []struct {
	mode  corev1.PersistentVolumeAccessMode
	short string
}{
	{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
}

func printModes(modes []corev1.PersistentVolumeAccessMode) string {
	var out []string
	for _, m := range shortModes {
		if slices.Contains(modes, m.mode) {
			out = append(out, m.short)
		}
	}
	return strings.Join(out, ",")
}

func persistentVolumeCells(v *corev1.PersistentVolume, p api.PrintOptions) []any {
	claim := ""
	if r := v.Spec.ClaimRef; r != nil {
		claim = r.Namespace + "/" + r.Name
	}
	phase := string(v.Status.Phase)
	if v.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	class := v.Spec.StorageClassName
	if annotated, there := v.Annotations[corev1.BetaStorageClassAnnotation]; there {
		class = annotated
	}
	size := v.Spec.Capacity[corev1.ResourceStorage]
	return []any{
		v.Name, size.String(), printModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim, class,
		ptr.Deref(v.Spec.VolumeAttributesClassName, "<unset>"), v.Status.Reason, api.Age(v.CreationTimestamp, p),
		string(ptr.Deref(v.Spec.VolumeMode, "<unset>")),
	}
}

func persistentVolumeWarnings(v, _ *corev1.PersistentVolume) []string {
	w, spec := &warner{}, field.NewPath("spec")
	for _, a := range []struct{ key, use string }{
		{corev1.BetaStorageClassAnnotation, `deprecated since v1.8; use "storageClassName" attribute instead`},
		{corev1.MountOptionAnnotation, `deprecated since v1.31; use "mountOptions" attribute instead`},
	} {
		if _, there := v.Annotations[a.key]; there {
			w.at(field.NewPath("metadata", "annotations").Key(a.key), "%s", a.use)
		}
	}
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		w.at(spec.Child("persistentVolumeReclaimPolicy"), "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if a := v.Spec.NodeAffinity; a != nil && a.Required != nil {
		for i, t := range a.Required.NodeSelectorTerms {
			w.nodeTerm(t, false, spec.Child("nodeAffinity", "required", "nodeSelectorTerms").Index(i))
		}
	}
	for _, old := range []struct {
		present    bool
		name, what string
	}{
		{v.Spec.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
		{v.Spec.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{v.Spec.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
		{v.Spec.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{v.Spec.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		{v.Spec.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
	} {
		if old.present {
			w.at(spec.Child(old.name), "%s", old.what)
		}
	}
	return w.texts
}
