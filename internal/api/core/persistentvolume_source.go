package core

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// validateVolumeKind checks the one source that a volume has.
func validateVolumeKind(s *corev1.PersistentVolumeSpec, name string, inline bool, path *field.Path) (e check.Errors) {
	u := union{e: &e, path: path, twice: check.OneVolumeType}
	u.member(s.HostPath != nil, "hostPath", on(s.HostPath, validateHostPath))
	u.alias(s.GCEPersistentDisk != nil, "gcePersistentDisk", "persistentDisk", on(s.GCEPersistentDisk, validateGCEDisk))
	u.member(s.AWSElasticBlockStore != nil, "awsElasticBlockStore", on(s.AWSElasticBlockStore, validateAWSDisk))
	u.member(s.Glusterfs != nil, "glusterfs", on(s.Glusterfs, validateGlusterfsVolume))
	u.member(s.Flocker != nil, "flocker", on(s.Flocker, validateFlocker))
	u.member(s.NFS != nil, "nfs", on(s.NFS, validateNFS))
	u.member(s.RBD != nil, "rbd", func(p *field.Path) check.Errors { return validateRBDImage(s.RBD.CephMonitors, s.RBD.RBDImage, p) })
	u.member(s.Quobyte != nil, "quobyte", on(s.Quobyte, validateQuobyte))
	u.alias(s.CephFS != nil, "cephFS", "cephfs", func(p *field.Path) (e check.Errors) {
		if len(s.CephFS.Monitors) == 0 {
			e.Required(p.Child("monitors"), "")
		}
		return e
	})
	u.member(s.ISCSI != nil, "iscsi", func(p *field.Path) check.Errors { return validateISCSIVolume(s.ISCSI, name, p) })
	u.member(s.Cinder != nil, "cinder", on(s.Cinder, validateCinderVolume))
	u.member(s.FC != nil, "fc", on(s.FC, validateFC))
	if s.FlexVolume != nil { // upstream lets it stand beside another
		u.count++
		e.Add(validateFlexDriver(s.FlexVolume.Driver, s.FlexVolume.Options, path.Child("flexVolume"))...)
	}
	u.member(s.AzureFile != nil, "azureFile", on(s.AzureFile, validateAzureFileVolume))
	u.member(s.VsphereVolume != nil, "vsphereVolume", on(s.VsphereVolume, validateVsphere))
	u.member(s.PhotonPersistentDisk != nil, "photonPersistentDisk", on(s.PhotonPersistentDisk, validatePhoton))
	u.member(s.PortworxVolume != nil, "portworxVolume", on(s.PortworxVolume, validatePortworx))
	u.member(s.AzureDisk != nil, "azureDisk", on(s.AzureDisk, validateAzureDisk))
	u.member(s.ScaleIO != nil, "scaleIO", func(p *field.Path) check.Errors {
		return validateScaleIOVolume(s.ScaleIO.Gateway, s.ScaleIO.System, s.ScaleIO.VolumeName, p)
	})
	u.member(s.Local != nil, "local", func(p *field.Path) (e check.Errors) {
		if s.Local.Path == "" {
			e.Required(p.Child("path"), "")
		} else {
			e.Add(validateNoBacksteps(s.Local.Path, p.Child("path"))...)
		}
		if s.NodeAffinity == nil || inline {
			e.Required(path.Child("nodeAffinity"), "Local volume requires node affinity")
		}
		return e
	})
	u.member(s.StorageOS != nil, "storageos", on(s.StorageOS, validateStorageOSPersistent))
	u.member(s.CSI != nil, "csi", on(s.CSI, validateCSIPersistent))
	if u.count == 0 {
		e.Required(path, "must specify a volume type")
	}
	return e
}

func validateGlusterfsVolume(v *corev1.GlusterfsPersistentVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("endpoints"), v.EndpointsName)
	e.NonEmpty(path.Child("path"), v.Path)
	if ns := v.EndpointsNamespace; ns != nil {
		at := path.Child("endpointsNamespace")
		if *ns == "" {
			e.Invalid(at, *ns, "if the endpointnamespace is set, it must be a valid namespace name")
		} else {
			e.Messages(at, *ns, apivalidation.ValidateNamespaceName(*ns, false))
		}
	}
	return e
}

func validateISCSIVolume(v *corev1.ISCSIPersistentVolumeSource, name string, path *field.Path) (e check.Errors) {
	const unknown = "must be valid format"
	e.NonEmpty(path.Child("targetPortal"), v.TargetPortal)
	if v.InitiatorName != nil && len(name+":"+v.TargetPortal) > maxISCSIName {
		e.Invalid(path.Child("targetportal"), v.TargetPortal, iscsiNameTooLong)
	}
	t := iscsiTarget{iqn: v.IQN, lun: v.Lun, discovery: v.DiscoveryCHAPAuth, session: v.SessionCHAPAuth, secret: v.SecretRef != nil, unknown: unknown}
	e.Add(t.validate(path)...)
	if v.SecretRef != nil {
		e.NonEmpty(path.Child("secretRef", "name"), v.SecretRef.Name)
	}
	if v.InitiatorName != nil {
		validateISCSIName(&e, *v.InitiatorName, path.Child("initiatorname"), unknown)
	}
	return e
}

func validateCinderVolume(v *corev1.CinderPersistentVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("volumeID"), v.VolumeID)
	if v.SecretRef != nil {
		e.NonEmpty(path.Child("secretRef", "name"), v.SecretRef.Name)
		e.NonEmpty(path.Child("secretRef", "namespace"), v.SecretRef.Namespace)
	}
	return e
}

func validateAzureFileVolume(v *corev1.AzureFilePersistentVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("secretName"), v.SecretName)
	e.NonEmpty(path.Child("shareName"), v.ShareName)
	if v.SecretNamespace != nil {
		e.NonEmpty(path.Child("secretNamespace"), *v.SecretNamespace)
	}
	return e
}

func validateStorageOSPersistent(v *corev1.StorageOSPersistentVolumeSource, path *field.Path) check.Errors {
	e := validateStorageOSVolume(v.VolumeName, v.VolumeNamespace, path)
	if v.SecretRef != nil {
		e.NonEmpty(path.Child("secretRef", "name"), v.SecretRef.Name)
		e.NonEmpty(path.Child("secretRef", "namespace"), v.SecretRef.Namespace)
	}
	return e
}

func validateCSIPersistent(v *corev1.CSIPersistentVolumeSource, path *field.Path) (e check.Errors) {
	e.Add(ValidateCSIDriverName(v.Driver, path.Child("driver"))...)
	e.NonEmpty(path.Child("volumeHandle"), v.VolumeHandle)
	for _, ref := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", v.ControllerPublishSecretRef}, {"controllerExpandSecretRef", v.ControllerExpandSecretRef},
		{"nodePublishSecretRef", v.NodePublishSecretRef}, {"nodeExpandSecretRef", v.NodeExpandSecretRef},
	} {
		if ref.ref == nil {
			continue
		}
		at := path.Child(ref.name)
		if ref.ref.Name == "" {
			e.Required(at.Child("name"), "")
		} else {
			e.Subdomain(at.Child("name"), ref.ref.Name)
		}
		if ref.ref.Namespace == "" {
			e.Required(at.Child("namespace"), "")
		} else {
			e.Label(at.Child("namespace"), ref.ref.Namespace)
		}
	}
	return e
}
