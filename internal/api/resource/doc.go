// Package resource has the rows of resource.k8s.io: the devices that drivers offer (ResourceSlice), what may be asked of them
// (DeviceClass), and who asks (ResourceClaim, ResourceClaimTemplate).
package resource
