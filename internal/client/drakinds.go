package client

import resourcev1 "k8s.io/api/resource/v1"

// What DRA drivers offer and pods claim.
var (
	ResourceClaims         = kindOf[*resourcev1.ResourceClaim](resourcev1.SchemeGroupVersion, "resourceclaims")
	ResourceClaimTemplates = kindOf[*resourcev1.ResourceClaimTemplate](resourcev1.SchemeGroupVersion, "resourceclaimtemplates")
	ResourceSlices         = kindOf[*resourcev1.ResourceSlice](resourcev1.SchemeGroupVersion, "resourceslices")
	DeviceClasses          = kindOf[*resourcev1.DeviceClass](resourcev1.SchemeGroupVersion, "deviceclasses")
)
