package kubelet

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/admission"
	"clipper.dev/clipper/internal/kubelet/node"
	"clipper.dev/clipper/internal/kubelet/preemption"
	"clipper.dev/clipper/internal/kubelet/shutdown"
)

// pressure is what eviction last found.
type pressure struct {
	mu  sync.Mutex
	now node.Pressure
}

func (p *pressure) get() node.Pressure {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *pressure) set(now node.Pressure) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = p.now != now
	p.now = now
	return changed
}

// nodeWait bounds how long a first pod waits for the Node object.
const nodeWait = 5 * time.Second

// admit decides whether a pod may run here, one pod at a time, so that two cannot take the same room. What ran before a restart is not
// measured against pressure again.
func (k *Kubelet) admit(ctx context.Context, pod *corev1.Pod, running bool) *admission.Refusal {
	if !running && k.shutdown.Down() {
		return &admission.Refusal{Reason: shutdown.RefusalReason, Message: shutdown.RefusalMessage}
	}
	k.pods.admission.Lock()
	defer k.pods.admission.Unlock()
	if running {
		k.pods.grant(pod)
		return k.allocate(ctx, pod)
	}
	p := k.pressure.get()
	in := admission.Input{
		Pod: pod, Node: k.node.Node(), Others: k.pods.holding(pod.UID), Allocatable: k.allocatable,
		Allocate: func() (corev1.ResourceList, *admission.Refusal) {
			refusal := k.allocate(ctx, pod)
			return k.resources.Allocatable(pod, k.allocatable), refusal
		},
		MemoryPressure: p.Memory, DiskPressure: p.Disk, PIDPressure: p.PID,
		UnsafeSysctls: k.cfg.Settings.AllowedUnsafeSysctls, AppArmor: appArmor(), GroupsPolicy: k.knowsGroupsPolicy(),
	}
	refusal := admission.Check(in)
	if refusal != nil && refusal.Reason == "NodeAffinity" {
		// The labels may have changed since the watch last told.
		ctx, cancel := context.WithTimeout(ctx, nodeWait)
		defer cancel()
		if fresh, err := client.Nodes.Get(ctx, k.cfg.Client, "", k.cfg.NodeName); err == nil {
			in.Node = fresh
			refusal = admission.Check(in)
		}
	}
	if refusal != nil && len(refusal.Lacking) > 0 && preemption.Critical(pod) {
		refusal = k.preempt(ctx, pod, in.Others, refusal.Lacking)
	}
	if refusal == nil {
		k.pods.grant(pod)
	}
	return refusal
}

// holding returns the admitted pods, other than one, that still hold resources.
func (p *pods) holding(except types.UID) []*corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*corev1.Pod
	for uid, e := range p.workers {
		if e.granted != nil && !e.stopped && uid != except {
			out = append(out, e.granted)
		}
	}
	return out
}

// grant notes that a pod has what it asks for.
func (p *pods) grant(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[pod.UID]; e != nil {
		e.granted = pod
	}
}

// appArmor tells whether the kernel enforces AppArmor profiles.
func appArmor() bool {
	data, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && len(data) > 0 && data[0] == 'Y'
}

// readInt reads a file that holds a number.
func readInt(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}
