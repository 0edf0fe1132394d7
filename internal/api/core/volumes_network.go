package core

import (
	"net"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

func validateGCEDisk(v *corev1.GCEPersistentDiskVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("pdName"), v.PDName)
	validatePartition(&e, v.Partition, path)
	return e
}

func validateAWSDisk(v *corev1.AWSElasticBlockStoreVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("volumeID"), v.VolumeID)
	validatePartition(&e, v.Partition, path)
	return e
}

func validatePartition(e *check.Errors, n int32, path *field.Path) {
	if n < 0 || n > 255 {
		e.Invalid(path.Child("partition"), n, validation.InclusiveRangeError(1, 255))
	}
}

func validateNFS(v *corev1.NFSVolumeSource, at *field.Path) (e check.Errors) {
	e.NonEmpty(at.Child("server"), v.Server)
	e.NonEmpty(at.Child("path"), v.Path)
	if !path.IsAbs(v.Path) {
		e.Invalid(at.Child("path"), v.Path, "must be an absolute path")
	}
	return e
}

const (
	maxISCSIName     = 64
	iscsiNameTooLong = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."
)

var iscsiNames = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

// validateISCSIName requires one of the three kinds of names that iSCSI has; unknown is the complaint about any other.
func validateISCSIName(e *check.Errors, name string, path *field.Path, unknown string) {
	for prefix, form := range iscsiNames {
		if strings.HasPrefix(name, prefix) {
			if !form.MatchString(name) {
				e.Invalid(path, name, "must be valid format")
			}
			return
		}
	}
	e.Invalid(path, name, unknown)
}

// An iscsiTarget is what inline and persistent iSCSI volumes share.
type iscsiTarget struct {
	iqn                string
	lun                int32
	discovery, session bool
	secret             bool
	unknown            string
}

func (t iscsiTarget) validate(path *field.Path) (e check.Errors) {
	if t.iqn == "" {
		e.Required(path.Child("iqn"), "")
	} else {
		validateISCSIName(&e, t.iqn, path.Child("iqn"), t.unknown)
	}
	if t.lun < 0 || t.lun > 255 {
		e.Invalid(path.Child("lun"), t.lun, validation.InclusiveRangeError(0, 255))
	}
	if (t.discovery || t.session) && !t.secret {
		e.Required(path.Child("secretRef"), "")
	}
	return e
}

func validateISCSI(v *corev1.ISCSIVolumeSource, path *field.Path) (e check.Errors) {
	const unknown = "must be valid format starting with iqn, eui, or naa"
	e.NonEmpty(path.Child("targetPortal"), v.TargetPortal)
	t := iscsiTarget{iqn: v.IQN, lun: v.Lun, discovery: v.DiscoveryCHAPAuth, session: v.SessionCHAPAuth, secret: v.SecretRef != nil, unknown: unknown}
	e.Add(t.validate(path)...)
	if v.InitiatorName != nil {
		validateISCSIName(&e, *v.InitiatorName, path.Child("initiatorname"), unknown)
	}
	return e
}

func validateFC(v *corev1.FCVolumeSource, path *field.Path) (e check.Errors) {
	at := path.Child("targetWWNs")
	if len(v.TargetWWNs) < 1 && len(v.WWIDs) < 1 {
		e.Required(at, "must specify either targetWWNs or wwids, but not both")
	}
	if len(v.TargetWWNs) != 0 && len(v.WWIDs) != 0 {
		e.Invalid(at, v.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")
	}
	if len(v.TargetWWNs) == 0 {
		return e
	}
	switch {
	case v.Lun == nil:
		e.Required(path.Child("lun"), "lun is required if targetWWNs is specified")
	case *v.Lun < 0 || *v.Lun > 255:
		e.Invalid(path.Child("lun"), v.Lun, validation.InclusiveRangeError(0, 255))
	}
	return e
}

func validateQuobyte(v *corev1.QuobyteVolumeSource, path *field.Path) (e check.Errors) {
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case v.Registry == "":
		e.Required(path.Child("registry"), pairs)
	case len(v.Tenant) >= 65:
		e.Required(path.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters")
	default:
		for _, pair := range strings.Split(v.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				e.Invalid(path.Child("registry"), v.Registry, pairs)
			}
		}
	}
	e.NonEmpty(path.Child("volume"), v.Volume)
	return e
}

func validateGlusterfs(v *corev1.GlusterfsVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("endpoints"), v.EndpointsName)
	e.NonEmpty(path.Child("path"), v.Path)
	return e
}

func validateFlocker(v *corev1.FlockerVolumeSource, path *field.Path) (e check.Errors) {
	if v.DatasetName == "" && v.DatasetUUID == "" {
		e.Required(path, "one of datasetName and datasetUUID is required")
	}
	if v.DatasetName != "" && v.DatasetUUID != "" {
		e.Invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
	}
	if strings.Contains(v.DatasetName, "/") {
		e.Invalid(path.Child("datasetName"), v.DatasetName, "must not contain '/'")
	}
	return e
}

func validateRBD(v *corev1.RBDVolumeSource, path *field.Path) check.Errors {
	return validateRBDImage(v.CephMonitors, v.RBDImage, path)
}

func validateRBDImage(monitors []string, image string, path *field.Path) (e check.Errors) {
	if len(monitors) == 0 {
		e.Required(path.Child("monitors"), "")
	}
	e.NonEmpty(path.Child("image"), image)
	return e
}

func validateCinder(v *corev1.CinderVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("volumeID"), v.VolumeID)
	if v.SecretRef != nil {
		e.NonEmpty(path.Child("secretRef", "name"), v.SecretRef.Name)
	}
	return e
}

func validateCephFS(v *corev1.CephFSVolumeSource, path *field.Path) (e check.Errors) {
	if len(v.Monitors) == 0 {
		e.Required(path.Child("monitors"), "")
	}
	return e
}

func validateFlex(v *corev1.FlexVolumeSource, path *field.Path) check.Errors {
	return validateFlexDriver(v.Driver, v.Options, path)
}

func validateFlexDriver(driver string, options map[string]string, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("driver"), driver)
	for key := range options {
		domain, _, _ := strings.Cut(key, "/")
		if reserved := "." + strings.ToLower(domain); strings.HasSuffix(reserved, ".kubernetes.io") || strings.HasSuffix(reserved, ".k8s.io") {
			e.Invalid(path.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved")
		}
	}
	return e
}

func validateAzureFile(v *corev1.AzureFileVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("secretName"), v.SecretName)
	e.NonEmpty(path.Child("shareName"), v.ShareName)
	return e
}

func validateAzureDisk(v *corev1.AzureDiskVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("diskName"), v.DiskName)
	e.NonEmpty(path.Child("diskURI"), v.DataDiskURI)
	if v.CachingMode != nil {
		check.OneOf(&e, path.Child("cachingMode"), *v.CachingMode, corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)
	}
	if v.Kind == nil {
		return e
	}
	check.OneOf(&e, path.Child("kind"), *v.Kind, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)
	const (
		managed = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
		blob    = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	)
	if isManaged := *v.Kind == corev1.AzureManagedDisk; isManaged && !strings.HasPrefix(v.DataDiskURI, "/subscriptions/") {
		e.Add(field.NotSupported(path.Child("diskURI"), v.DataDiskURI, []string{managed}))
	} else if !isManaged && !strings.HasPrefix(v.DataDiskURI, "https://") {
		e.Add(field.NotSupported(path.Child("diskURI"), v.DataDiskURI, []string{blob}))
	}
	return e
}

func validateVsphere(v *corev1.VsphereVirtualDiskVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("volumePath"), v.VolumePath)
	return e
}

func validatePhoton(v *corev1.PhotonPersistentDiskVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("pdID"), v.PdID)
	return e
}

func validatePortworx(v *corev1.PortworxVolumeSource, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("volumeID"), v.VolumeID)
	return e
}

func validateScaleIO(v *corev1.ScaleIOVolumeSource, path *field.Path) check.Errors {
	return validateScaleIOVolume(v.Gateway, v.System, v.VolumeName, path)
}

func validateScaleIOVolume(gateway, system, volume string, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("gateway"), gateway)
	e.NonEmpty(path.Child("system"), system)
	e.NonEmpty(path.Child("volumeName"), volume)
	return e
}

func validateStorageOS(v *corev1.StorageOSVolumeSource, path *field.Path) check.Errors {
	e := validateStorageOSVolume(v.VolumeName, v.VolumeNamespace, path)
	if v.SecretRef != nil {
		e.NonEmpty(path.Child("secretRef", "name"), v.SecretRef.Name)
	}
	return e
}

func validateStorageOSVolume(name, namespace string, path *field.Path) (e check.Errors) {
	if name == "" {
		e.Required(path.Child("volumeName"), "")
	} else {
		e.Label(path.Child("volumeName"), name)
	}
	if namespace != "" {
		e.Label(path.Child("volumeNamespace"), namespace)
	}
	return e
}

// ValidateCSIDriverName requires the name of a CSI driver.
func ValidateCSIDriverName(name string, path *field.Path) (e check.Errors) {
	if name == "" {
		e.Required(path, "")
		return e
	}
	if len(name) > 63 {
		e.TooLong(path, 63)
	}
	e.Messages(path, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))
	return e
}

func validateCSIVolume(v *corev1.CSIVolumeSource, path *field.Path) (e check.Errors) {
	e.Add(ValidateCSIDriverName(v.Driver, path.Child("driver"))...)
	if ref := v.NodePublishSecretRef; ref != nil {
		if ref.Name == "" {
			e.Required(path.Child("nodePublishSecretRef", "name"), "")
		} else {
			e.Messages(path.Child("name"), ref.Name, apivalidation.NameIsDNSSubdomain(ref.Name, false))
		}
	}
	return e
}
