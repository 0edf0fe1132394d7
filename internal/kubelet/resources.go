package kubelet

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/admission"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/resources"
	"clipper.dev/clipper/internal/kubelet/resources/cpu"
)

// sysDir is the kernel's.
const sysDir = "/sys"

// openResources makes what gives pods CPUs, memory and devices.
func (k *Kubelet) openResources() (err error) {
	k.resources, err = resources.New(resources.Config{
		Policies: k.cfg.parsed.resources, Root: k.cfg.RootDir, Sys: sysDir, Reserved: k.cfg.reserved(k.capacity, true),
		Active: k.holdingPods, Find: k.findPod, Running: k.containerRuns, Containers: k.runningContainers, SetCPUs: k.setCPUs, Dynamic: k.dra.Resources,
		Changed: k.checkNode, Sick: k.touchPods, Registry: k.metrics.registry, Logger: k.logger,
	})
	if err != nil {
		return err
	}
	k.tree.Unbounded = k.resources.Unthrottled
	return nil
}

// reserveNamed makes the CPUs that are reserved by their numbers the node's whole reservation.
func (c *Config) reserveNamed() error {
	named, err := c.parsed.resources.Reserved()
	if err != nil || named.IsEmpty() {
		return err
	}
	kube, system := maps.Clone(c.parsed.kubeReserved), maps.Clone(c.parsed.systemReserved)
	delete(kube, corev1.ResourceCPU)
	if system == nil {
		system = corev1.ResourceList{}
	}
	system[corev1.ResourceCPU] = *resource.NewQuantity(int64(named.Size()), resource.DecimalSI)
	c.parsed.kubeReserved, c.parsed.systemReserved = kube, system
	return nil
}

// allocate gives a pod what it asks for of CPUs, memory and devices.
func (k *Kubelet) allocate(ctx context.Context, pod *corev1.Pod) *admission.Refusal {
	if r := k.resources.Admit(ctx, pod); r != nil {
		return &admission.Refusal{Reason: r.Reason, Message: r.Message}
	}
	return nil
}

// holdingPods are the pods that have resources or are about to; false when not all are known yet.
func (k *Kubelet) holdingPods() (map[types.UID]*corev1.Pod, bool) {
	out := map[types.UID]*corev1.Pod{}
	for _, s := range k.pods.list() {
		if !s.Stopped && !lifecycle.Terminal(s.Pod.Status.Phase) {
			out[s.Pod.UID] = s.Pod
		}
	}
	return out, k.sourcesReady.Load() && k.staticReady()
}

func (k *Kubelet) findPod(namespace, name string) *corev1.Pod {
	if s, ok := k.pods.find(namespace, name, ""); ok {
		return s.Pod
	}
	return nil
}

func (k *Kubelet) containerRuns(uid types.UID, name string) bool {
	o := k.pods.observed(uid)
	if o == nil {
		return false
	}
	c := o.Container(name)
	return c != nil && c.State == lifecycle.Running
}

func (k *Kubelet) runningContainers() []cpu.Running {
	var out []cpu.Running
	for _, s := range k.pods.list() {
		if s.Observed == nil || s.Stopped {
			continue
		}
		for _, c := range s.Observed.RunningContainers() {
			if ref, ok := lifecycle.Find(s.Pod, c.Name); ok && ref.Class != lifecycle.Ephemeral {
				out = append(out, cpu.Running{UID: s.Pod.UID, Name: c.Name, ID: c.ID})
			}
		}
	}
	return out
}

func (k *Kubelet) setCPUs(ctx context.Context, id, cpus string) error {
	_, err := k.cri.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{CpusetCpus: cpus}})
	if err != nil {
		return fmt.Errorf("set CPUs of container %s: %w", id, err)
	}
	return nil
}

// touchPods has pods' statuses made anew.
func (k *Kubelet) touchPods(uids []types.UID) {
	for _, uid := range uids {
		k.pods.changed(uid)
	}
}

// refusePinned says why a guaranteed pod's resources can't change while it runs; "" if they can.
func (k *Kubelet) refusePinned(pod *corev1.Pod) (detail, problem string) {
	if lifecycle.QOS(pod) != corev1.PodQOSGuaranteed {
		return "", ""
	}
	former := k.pods.grantedPod(pod.UID)
	if former == nil {
		return "", ""
	}
	return k.resources.RefuseResize(requestsDiffer(former, pod, corev1.ResourceCPU), requestsDiffer(former, pod, corev1.ResourceMemory))
}

func requestsDiffer(a, b *corev1.Pod, name corev1.ResourceName) bool {
	differ := func(a, b []corev1.Container) bool {
		for i := range min(len(a), len(b)) {
			if x, y := a[i].Resources.Requests[name], b[i].Resources.Requests[name]; !apiequality.Semantic.DeepEqual(x, y) {
				return true
			}
		}
		return false
	}
	return differ(a.Spec.Containers, b.Spec.Containers) || differ(a.Spec.InitContainers, b.Spec.InitContainers)
}
