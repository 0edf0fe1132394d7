package client

import storagev1 "k8s.io/api/storage/v1"

// What CSI drivers tell of themselves and of the nodes.
var (
	CSINodes             = kindOf[*storagev1.CSINode](storagev1.SchemeGroupVersion, "csinodes")
	CSIDrivers           = kindOf[*storagev1.CSIDriver](storagev1.SchemeGroupVersion, "csidrivers")
	CSIStorageCapacities = kindOf[*storagev1.CSIStorageCapacity](storagev1.SchemeGroupVersion, "csistoragecapacities")
	VolumeAttachments    = kindOf[*storagev1.VolumeAttachment](storagev1.SchemeGroupVersion, "volumeattachments")
)
