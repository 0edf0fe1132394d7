package device

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
)

// Options are what the runtime is told of a container's devices.
type Options struct {
	Env         []criconfig.EnvVar
	Mounts      []*runtimeapi.Mount
	Devices     []*runtimeapi.Device
	CDI         []*runtimeapi.CDIDevice
	Annotations map[string]string
}

// Options lets plugins prepare a container's devices and returns what the runtime is to be told of them. A container that has lost its devices, as one
// whose plugin wasn't there after a reboot, gets others.
func (m *Manager) Options(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (*Options, error) {
	m.mu.Lock()
	wanted := m.requests(pod, c)
	m.mu.Unlock()
	o := owner{pod.UID, c.Name}
	lost := false
	for _, r := range wanted {
		m.mu.Lock()
		given, had := m.grants[o][r.resource]
		m.mu.Unlock()
		if lost = lost || !had; !had {
			continue
		}
		if err := m.preStart(ctx, r.resource, given); err != nil {
			return nil, err
		}
	}
	if lost {
		if err := m.Allocate(ctx, pod, c); err != nil {
			return nil, err
		}
	}
	return m.options(o), nil
}

func (m *Manager) preStart(ctx context.Context, resource string, given grant) error {
	m.mu.Lock()
	k := m.kinds[resource]
	required := k != nil && k.preStart
	m.mu.Unlock()
	if !required { // Or nobody knows, as after a restart of the kubelet without the plugin.
		return nil
	}
	p, err := m.pluginOf(resource)
	if err != nil {
		return fmt.Errorf("device plugin PreStartContainer rpc failed with err: %w", err)
	}
	return p.preStart(ctx, given.devices.ids())
}

// options puts together what plugins have answered. What two of them say for the same path, variable or annotation is taken once.
func (m *Manager) options(o owner) *Options {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &Options{}
	seen := map[string]bool{}
	first := func(what, name string) bool {
		key := what + " " + name
		defer func() { seen[key] = true }()
		return !seen[key]
	}
	by := m.grants[o]
	for _, name := range slices.Sorted(maps.Keys(by)) {
		answer := by[name].answer
		for _, key := range slices.Sorted(maps.Keys(answer.GetEnvs())) {
			if first("env", key) {
				out.Env = append(out.Env, criconfig.EnvVar{Name: key, Value: answer.Envs[key]})
			}
		}
		for _, d := range answer.GetDevices() {
			if first("device", d.ContainerPath) {
				out.Devices = append(out.Devices, &runtimeapi.Device{HostPath: d.HostPath, ContainerPath: d.ContainerPath, Permissions: d.Permissions})
			}
		}
		for _, mount := range answer.GetMounts() {
			if first("mount", mount.ContainerPath) {
				out.Mounts = append(out.Mounts, &runtimeapi.Mount{HostPath: mount.HostPath, ContainerPath: mount.ContainerPath, Readonly: mount.ReadOnly})
			}
		}
		for key, value := range answer.GetAnnotations() {
			if first("annotation", key) {
				if out.Annotations == nil {
					out.Annotations = map[string]string{}
				}
				out.Annotations[key] = value
			}
		}
		for _, d := range answer.GetCdiDevices() {
			if first("cdi", d.Name) {
				out.CDI = append(out.CDI, &runtimeapi.CDIDevice{Name: d.Name})
			}
		}
	}
	return out
}

// Device is a device of a resource, and the NUMA nodes that it's near.
type Device struct {
	Resource, ID string
	Nodes        []int64
}

// Given returns the devices that a container has.
func (m *Manager) Given(uid types.UID, container string) []Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Device
	by := m.grants[owner{uid, container}]
	for _, name := range slices.Sorted(maps.Keys(by)) {
		nodes := map[string][]int64{}
		for node, ids := range by[name].devices {
			for _, id := range ids {
				if nodes[id] = append([]int64{}, nodes[id]...); node != nowhere {
					nodes[id] = append(nodes[id], node)
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(nodes)) {
			slices.Sort(nodes[id])
			out = append(out, Device{name, id, nodes[id]})
		}
	}
	return out
}

// Healthy returns all devices that can be given.
func (m *Manager) Healthy() []Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Device
	for _, name := range slices.Sorted(maps.Keys(m.kinds)) {
		k := m.kinds[name]
		for _, id := range slices.Sorted(maps.Keys(k.healthy())) {
			d := Device{Resource: name, ID: id}
			for _, n := range k.devices[id].GetTopology().GetNodes() {
				d.Nodes = append(d.Nodes, n.ID)
			}
			out = append(out, d)
		}
	}
	return out
}

// Health writes into a pod's status how its containers' devices are.
func (m *Manager) Health(uid types.UID, status *corev1.PodStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.grants) == 0 {
		return
	}
	for i := range status.ContainerStatuses {
		c := &status.ContainerStatuses[i]
		by := m.grants[owner{uid, c.Name}]
		for _, name := range slices.Sorted(maps.Keys(by)) {
			report := corev1.ResourceStatus{Name: corev1.ResourceName(name)}
			for _, id := range slices.Sorted(maps.Keys(by[name].devices.ids())) {
				report.Resources = append(report.Resources, corev1.ResourceHealth{ResourceID: corev1.ResourceID(id), Health: m.health(name, id)})
			}
			c.AllocatedResourcesStatus = slices.DeleteFunc(c.AllocatedResourcesStatus, func(s corev1.ResourceStatus) bool { return s.Name == report.Name })
			c.AllocatedResourcesStatus = append(c.AllocatedResourcesStatus, report)
		}
	}
}

// health is what the plugin last said of a device; the lock is held.
func (m *Manager) health(name, id string) corev1.ResourceHealthStatus {
	if k := m.kinds[name]; k != nil && k.devices[id] != nil && k.devices[id].Health != pluginapi.Healthy {
		return corev1.ResourceHealthStatusUnhealthy
	}
	return corev1.ResourceHealthStatusHealthy
}
