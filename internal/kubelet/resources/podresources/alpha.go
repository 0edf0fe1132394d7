package podresources

import (
	"context"

	alphaapi "k8s.io/kubelet/pkg/apis/podresources/v1alpha1"
)

// alpha serves v1alpha1, which knows pods' devices alone.
type alpha struct {
	alphaapi.UnimplementedPodResourcesListerServer
	cfg *Config
}

// List implements alphaapi.PodResourcesListerServer.
func (a *alpha) List(context.Context, *alphaapi.ListPodResourcesRequest) (*alphaapi.ListPodResourcesResponse, error) {
	a.cfg.Metrics.PodResources.WithLabelValues("v1alpha1").Inc()
	out := &alphaapi.ListPodResourcesResponse{}
	for _, pod := range a.cfg.Active() {
		p := &alphaapi.PodResources{Name: pod.Name, Namespace: pod.Namespace}
		for i := range pod.Spec.Containers {
			c := &alphaapi.ContainerResources{Name: pod.Spec.Containers[i].Name}
			for _, d := range a.cfg.Devices.Given(pod.UID, c.Name) {
				c.Devices = append(c.Devices, &alphaapi.ContainerDevices{ResourceName: d.Resource, DeviceIds: []string{d.ID}})
			}
			p.Containers = append(p.Containers, c)
		}
		out.PodResources = append(out.PodResources, p)
	}
	return out, nil
}
