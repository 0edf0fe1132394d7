package dra

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// Resources lists the devices of a container's claims, for agents that ask which resources pods have.
func (m *Manager) Resources(pod *corev1.Pod, c *corev1.Container) []*podresourcesapi.DynamicResource {
	if !Uses(pod) {
		return nil
	}
	requests, err := requestsOf(pod, c)
	if err != nil {
		return nil // A claim that isn't made yet has no devices.
	}
	var out []*podresourcesapi.DynamicResource
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		m.visit(pod.Namespace, name, func(claim *Claim) {
			out = append(out, &podresourcesapi.DynamicResource{ClaimName: claim.ClaimName, ClaimNamespace: claim.Namespace, ClaimResources: claim.serving(requests[name])})
		})
	}
	return out
}

// serving lists the devices that serve requests.
func (c *Claim) serving(requests []string) []*podresourcesapi.ClaimResource {
	var out []*podresourcesapi.ClaimResource
	for _, driver := range slices.Sorted(maps.Keys(c.DriverState)) {
		for i := range c.DriverState[driver].Devices {
			d := &c.DriverState[driver].Devices[i]
			if !slices.ContainsFunc(requests, d.serves) {
				continue
			}
			r := &podresourcesapi.ClaimResource{DriverName: driver, PoolName: d.PoolName, DeviceName: d.DeviceName}
			if d.ShareID != nil {
				share := string(*d.ShareID)
				r.ShareId = &share
			}
			for _, id := range d.CDIDeviceIDs {
				r.CdiDevices = append(r.CdiDevices, &podresourcesapi.CDIDevice{Name: id})
			}
			out = append(out, r)
		}
	}
	return out
}
