package core

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// A union reports the second member of a choice.
type union struct {
	e     *check.Errors
	path  *field.Path
	twice string
	count int
}

// member validates one member if it is present and the first; name is the member's path.
func (u *union) member(present bool, name string, validate func(*field.Path) check.Errors) {
	u.alias(present, name, name, validate)
}

// alias is member for those whose path differs between the two complaints.
func (u *union) alias(present bool, forbidden, name string, validate func(*field.Path) check.Errors) {
	switch {
	case !present:
	case u.count > 0:
		u.e.Forbidden(u.path.Child(forbidden), u.twice)
	default:
		u.count++
		u.e.Add(validate(u.path.Child(name))...)
	}
}

// on binds a validation to the member that it is about.
func on[T any](member *T, validate func(*T, *field.Path) check.Errors) func(*field.Path) check.Errors {
	return func(path *field.Path) check.Errors { return validate(member, path) }
}

// validateVolumes returns the valid volumes by name, to which mounts may refer.
func validateVolumes(volumes []corev1.Volume, pod *metav1.ObjectMeta, path *field.Path, opts *podOptions) (map[string]*corev1.VolumeSource, check.Errors) {
	var all check.Errors
	made := sets.New[string]() // claims that will be made for ephemeral volumes
	for _, v := range volumes {
		if v.Ephemeral != nil && pod != nil && pod.Name != "" {
			made.Insert(pod.Name + "-" + v.Name)
		}
	}
	valid := map[string]*corev1.VolumeSource{}
	for i := range volumes {
		v, at := &volumes[i], path.Index(i)
		e := validateVolumeSource(&v.VolumeSource, v.Name, pod, at, opts)
		if v.Name == "" {
			e.Required(at.Child("name"), "")
		} else {
			e.Label(at.Child("name"), v.Name)
		}
		if _, twice := valid[v.Name]; twice {
			e.Duplicate(at.Child("name"), v.Name)
		}
		if len(e) == 0 {
			valid[v.Name] = &v.VolumeSource
		}
		if c := v.PersistentVolumeClaim; c != nil && made.Has(c.ClaimName) {
			e.Invalid(at.Child("persistentVolumeClaim", "claimName"), c.ClaimName, "must not reference a PVC that gets created for an ephemeral volume")
		}
		all.Add(e...)
	}
	return valid, all
}

func validateVolumeSource(s *corev1.VolumeSource, name string, pod *metav1.ObjectMeta, path *field.Path, opts *podOptions) (e check.Errors) {
	u := union{e: &e, path: path, twice: check.OneVolumeType}
	u.member(s.EmptyDir != nil, "emptyDir", on(s.EmptyDir, validateEmptyDir))
	u.member(s.HostPath != nil, "hostPath", on(s.HostPath, validateHostPath))
	u.member(s.GitRepo != nil, "gitRepo", on(s.GitRepo, validateGitRepo))
	u.alias(s.GCEPersistentDisk != nil, "gcePersistentDisk", "persistentDisk", on(s.GCEPersistentDisk, validateGCEDisk))
	u.member(s.AWSElasticBlockStore != nil, "awsElasticBlockStore", on(s.AWSElasticBlockStore, validateAWSDisk))
	u.member(s.Secret != nil, "secret", on(s.Secret, validateSecretVolume))
	u.member(s.NFS != nil, "nfs", on(s.NFS, validateNFS))
	u.member(s.ISCSI != nil, "iscsi", on(s.ISCSI, validateISCSI))
	if s.ISCSI != nil && s.ISCSI.InitiatorName != nil && len(name+":"+s.ISCSI.TargetPortal) > maxISCSIName {
		e.Invalid(path.Child("name"), name, iscsiNameTooLong)
	}
	u.member(s.Glusterfs != nil, "glusterfs", on(s.Glusterfs, validateGlusterfs))
	u.member(s.Flocker != nil, "flocker", on(s.Flocker, validateFlocker))
	u.member(s.PersistentVolumeClaim != nil, "persistentVolumeClaim", on(s.PersistentVolumeClaim, validateClaimVolume))
	u.member(s.RBD != nil, "rbd", on(s.RBD, validateRBD))
	u.member(s.Cinder != nil, "cinder", on(s.Cinder, validateCinder))
	u.alias(s.CephFS != nil, "cephFS", "cephfs", on(s.CephFS, validateCephFS))
	u.member(s.Quobyte != nil, "quobyte", on(s.Quobyte, validateQuobyte))
	u.alias(s.DownwardAPI != nil, "downwarAPI", "downwardAPI", on(s.DownwardAPI, validateDownwardVolume)) // sic
	u.member(s.FC != nil, "fc", on(s.FC, validateFC))
	u.member(s.FlexVolume != nil, "flexVolume", on(s.FlexVolume, validateFlex))
	u.member(s.ConfigMap != nil, "configMap", on(s.ConfigMap, validateConfigMapVolume))
	u.member(s.AzureFile != nil, "azureFile", on(s.AzureFile, validateAzureFile))
	u.member(s.VsphereVolume != nil, "vsphereVolume", on(s.VsphereVolume, validateVsphere))
	u.member(s.PhotonPersistentDisk != nil, "photonPersistentDisk", on(s.PhotonPersistentDisk, validatePhoton))
	u.member(s.PortworxVolume != nil, "portworxVolume", on(s.PortworxVolume, validatePortworx))
	u.member(s.AzureDisk != nil, "azureDisk", on(s.AzureDisk, validateAzureDisk))
	u.member(s.StorageOS != nil, "storageos", on(s.StorageOS, validateStorageOS))
	u.member(s.Projected != nil, "projected", func(p *field.Path) check.Errors { return validateProjected(s.Projected, p, opts) })
	u.member(s.ScaleIO != nil, "scaleIO", on(s.ScaleIO, validateScaleIO))
	u.member(s.CSI != nil, "csi", on(s.CSI, validateCSIVolume))
	u.member(s.Ephemeral != nil, "ephemeral", func(p *field.Path) check.Errors {
		e := validateEphemeralVolume(s.Ephemeral, p)
		if pod != nil && pod.Name != "" && name != "" {
			claim := pod.Name + "-" + name
			for _, msg := range apivalidation.NameIsDNSSubdomain(claim, false) {
				e.Invalidf(path.Child("name"), name, "PVC name %q: %v", claim, msg)
			}
		}
		return e
	})
	u.member(s.Image != nil, "image", func(p *field.Path) (e check.Errors) {
		if opts.isPod {
			e.NonEmpty(p.Child("reference"), s.Image.Reference)
		}
		check.Enum(&e, p.Child("pullPolicy"), s.Image.PullPolicy, pullPolicies...)
		return e
	})
	if u.count == 0 {
		e.Required(path, "must specify a volume type")
	}
	return e
}

func validateEmptyDir(v *corev1.EmptyDirVolumeSource, path *field.Path) (e check.Errors) {
	if v.SizeLimit != nil && v.SizeLimit.Sign() < 0 {
		e.Forbidden(path.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")
	}
	return e
}

func validateHostPath(v *corev1.HostPathVolumeSource, path *field.Path) (e check.Errors) {
	if v.Path == "" {
		e.Required(path.Child("path"), "")
		return e
	}
	e.Add(validateNoBacksteps(v.Path, path.Child("path"))...)
	if v.Type != nil {
		check.OneOf(&e, path.Child("type"), *v.Type, corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev,
			corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)
	}
	return e
}

func validateGitRepo(v *corev1.GitRepoVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("repository"), v.Repository)
	e.Add(validateDescending(v.Directory, path.Child("directory"))...)
	return e
}

const fileMode = "must be a number between 0 and 0777 (octal), both inclusive"

func validateMode(e *check.Errors, mode *int32, path *field.Path) {
	if mode != nil && (*mode < 0 || *mode > 0777) {
		e.Invalid(path, *mode, fileMode)
	}
}

func validateSecretVolume(v *corev1.SecretVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("secretName"), v.SecretName)
	validateMode(&e, v.DefaultMode, path.Child("defaultMode"))
	e.Add(validateItems(v.Items, path.Child("items"))...)
	return e
}

func validateConfigMapVolume(v *corev1.ConfigMapVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("name"), v.Name)
	validateMode(&e, v.DefaultMode, path.Child("defaultMode"))
	e.Add(validateItems(v.Items, path.Child("items"))...)
	return e
}

func validateItems(items []corev1.KeyToPath, path *field.Path) (e check.Errors) {
	for i := range items {
		e.Add(validateItem(&items[i], path.Index(i))...)
	}
	return e
}

func validateItem(item *corev1.KeyToPath, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("key"), item.Key)
	e.NonEmpty(path.Child("path"), item.Path)
	e.Add(validateNonReserved(item.Path, path.Child("path"))...)
	validateMode(&e, item.Mode, path.Child("mode"))
	return e
}

func validateClaimVolume(v *corev1.PersistentVolumeClaimVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("claimName"), v.ClaimName)
	return e
}

func validateDownwardVolume(v *corev1.DownwardAPIVolumeSource, path *field.Path) (e check.Errors) {
	validateMode(&e, v.DefaultMode, path.Child("defaultMode"))
	for i := range v.Items {
		e.Add(validateDownwardFile(&v.Items[i], path)...)
	}
	return e
}

func validateDownwardFile(f *corev1.DownwardAPIVolumeFile, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("path"), f.Path)
	e.Add(validateNonReserved(f.Path, path.Child("path"))...)
	switch {
	case f.FieldRef != nil:
		e.Add(validateFieldRef(f.FieldRef, volumeFields, path.Child("fieldRef"))...)
		if f.ResourceFieldRef != nil {
			e.Invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
		}
	case f.ResourceFieldRef != nil:
		e.Add(validateResourceFieldRef(f.ResourceFieldRef, path.Child("resourceFieldRef"), true)...)
	default:
		e.Required(path, "one of fieldRef and resourceFieldRef is required")
	}
	validateMode(&e, f.Mode, path.Child("mode"))
	return e
}

func validateEphemeralVolume(v *corev1.EphemeralVolumeSource, path *field.Path) (e check.Errors) {
	t, at := v.VolumeClaimTemplate, path.Child("volumeClaimTemplate")
	if t == nil {
		e.Required(at, "")
		return e
	}
	e.Add(ValidateClaimTemplateMeta(&t.ObjectMeta, at.Child("metadata"))...)
	e.Add(validateClaimSpec(&t.Spec, at.Child("spec"), claimOptions{})...)
	return e
}

// validateNoBacksteps refuses a path that climbs.
func validateNoBacksteps(p string, at *field.Path) (e check.Errors) {
	for _, part := range strings.Split(p, "/") {
		if part == ".." {
			e.Invalid(at, p, "must not contain '..'")
			break
		}
	}
	return e
}

// validateDescending requires a relative path that does not climb.
func validateDescending(p string, at *field.Path) (e check.Errors) {
	if path.IsAbs(p) {
		e.Invalid(at, p, "must be a relative path")
	}
	e.Add(validateNoBacksteps(p, at)...)
	return e
}

// validateNonReserved requires a relative path that doesn't begin as the names that volumes keep for themselves.
func validateNonReserved(p string, at *field.Path) (e check.Errors) {
	e.Add(validateDescending(p, at)...)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") {
		e.Invalid(at, p, "must not start with '..'")
	}
	return e
}
