package scheduler

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"clipper.dev/clipper/internal/scheduler/devices"
)

// dynamicResources keeps a pod to the nodes where its claims' devices can be used, and finds devices for claims that have none yet. Those are
// written before the pod is bound: see core.place.
type dynamicResources struct{}

const (
	dynamicResourcesName = "DynamicResources"
	// bindingTimeout is how long devices may take until a pod can be bound to them.
	bindingTimeout = 10 * time.Minute
)

// What the rule does when no node will do.
const (
	nothingToDeallocate = "no new claims to deallocate"
	deallocated         = "deallocation of ResourceClaim completed"
	claimDeleted        = "deletion of ResourceClaim completed"
	stillUnschedulable  = "still not schedulable"
	notFound            = "not found"
)

func (dynamicResources) name() string { return dynamicResourcesName }

func (dynamicResources) compile(p *podInfo, c *cluster) *rule {
	if !c.looksAtDevices(p) {
		return nil
	}
	r := &rule{wait: nodeAdded | nodeLabels | nodeTaints | nodeAllocatable | claimsChanged}
	want, wrong := c.claimsOf(p)
	if wrong != "" {
		r.reject = wrong
		return r
	}
	r.claims, r.filter = want, want.filter
	if want.prefers {
		r.score, r.weight, r.scale = want.score, 2, byMax
	}
	return r
}

// looksAtDevices tells whether claims decide where a pod may go.
func (c *cluster) looksAtDevices(p *podInfo) bool {
	if len(p.pod.Spec.ResourceClaims) > 0 {
		return true
	}
	for _, a := range p.requests {
		if a.column > podsColumn && c.devices.Backs(c.columnNames[a.column]) != nil {
			return true
		}
	}
	return false
}

// claimedDevices are the claims of a pod that is being decided about, and what was found for them.
type claimedDevices struct {
	cluster  *cluster
	pod      *corev1.Pod
	claims   []*podClaim
	open     []*resourcev1.ResourceClaim // those that have no devices yet
	question *devices.Question           // about them
	prefers  bool                        // there are alternatives, some better than others
	extended *extendedResources          // nil if it asks for none that stand for devices
	found    map[int]found               // by slot
	// unavailable are the allocated claims that kept the pod from a node.
	unavailable map[*podClaim]bool
}

type podClaim struct {
	api   *resourcev1.ResourceClaim
	nodes *nodeaffinity.NodeSelector // nil is all
}

// found is what a node has for a pod.
type found struct {
	results  []resourcev1.AllocationResult // of the open claims, and then of the extended resources
	extended *extendedClaim
}

// eachClaim visits the claims that a pod names; the error says why one can't be used.
func (c *cluster) eachClaim(pod *corev1.Pod, visit func(*resourcev1.ResourceClaim)) error {
	for i := range pod.Spec.ResourceClaims {
		name, owned, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil {
			return err
		}
		if name == nil {
			continue
		}
		claim := c.devices.Claim(claimKey(pod.Namespace, *name))
		switch {
		case claim == nil:
			return fmt.Errorf("resourceclaim %q not found", *name)
		case claim.DeletionTimestamp != nil:
			return fmt.Errorf("resourceclaim %q is being deleted", claim.Name)
		}
		if owned {
			if err := resourceclaim.IsForPod(pod, claim, false); err != nil {
				return err
			}
		}
		visit(claim)
	}
	return nil
}

// claimsOf collects what a pod needs, or says why no node whatever will do.
func (c *cluster) claimsOf(p *podInfo) (*claimedDevices, string) {
	want := &claimedDevices{cluster: c, pod: p.pod, found: map[int]found{}, unavailable: map[*podClaim]bool{}}
	var wrong string
	err := c.eachClaim(p.pod, func(claim *resourcev1.ResourceClaim) {
		if wrong == "" {
			wrong = want.add(claim)
		}
	})
	if err != nil {
		return nil, err.Error()
	}
	if wrong != "" {
		return nil, wrong
	}
	want.extended = c.extendedResourcesOf(p)
	if len(want.open) > 0 {
		if want.question, err = c.devices.Ask(want.open); err != nil {
			return nil, err.Error()
		}
	}
	return want, ""
}

// add takes in one of the pod's claims, or says why it makes the pod unschedulable.
func (w *claimedDevices) add(claim *resourcev1.ResourceClaim) string {
	one := &podClaim{api: claim}
	w.claims = append(w.claims, one)
	for _, r := range claim.Spec.Devices.Requests {
		w.prefers = w.prefers || len(r.FirstAvailable) > 0
	}
	if a := claim.Status.Allocation; a != nil {
		if !resourceclaim.CanBeReserved(claim) && !resourceclaim.IsReservedForPod(w.pod, claim, false) {
			return "resourceclaim in use"
		}
		if a.NodeSelector != nil {
			selector, err := nodeaffinity.NewNodeSelector(a.NodeSelector)
			if err != nil {
				return err.Error()
			}
			one.nodes = selector
		}
		return ""
	}
	if w.cluster.devices.Pending(claimKey(claim.Namespace, claim.Name)) {
		return fmt.Sprintf("resource claim %s/%s is in the process of being allocated", claim.Namespace, claim.Name)
	}
	for _, r := range claim.Spec.Devices.Requests {
		if r.Exactly != nil && w.cluster.devices.Class(r.Exactly.DeviceClassName) == nil {
			return noSuchClass(r.Name, r.Exactly.DeviceClassName)
		}
		for _, s := range r.FirstAvailable {
			if w.cluster.devices.Class(s.DeviceClassName) == nil {
				return noSuchClass(r.Name+"/"+s.Name, s.DeviceClassName)
			}
		}
	}
	w.open = append(w.open, claim)
	return ""
}

func noSuchClass(request, class string) string {
	return fmt.Sprintf("request %s: device class %s does not exist", request, class)
}

// filter finds out whether a node has what the pod needs.
func (w *claimedDevices) filter(slot int) *refusal {
	node := w.cluster.nodes[slot].api
	delete(w.found, slot)
	extended, no := w.extended.on(w.cluster, slot)
	if no != nil {
		return no
	}
	if extended == nil && len(w.claims) == 0 {
		return nil
	}
	available := true
	for _, c := range w.claims {
		if !c.usable(node, w.cluster.now) {
			w.unavailable[c] = true
			available = false
		}
	}
	var found found
	question, asked := w.question, len(w.open)
	if extended != nil {
		found.extended = extended
		var err error
		if question, err = w.cluster.devices.Ask(append(slices.Clone(w.open), extended.claim)); err != nil {
			return claimRefusal(err.Error())
		}
		asked++
	}
	if asked > 0 {
		results, err := question.On(node)
		if err != nil {
			return claimRefusal(err.Error())
		}
		if results == nil {
			return claimRefusal("cannot allocate all claims")
		}
		found.results = results
	}
	if !available {
		return claimRefusal("resourceclaim not available on the node")
	}
	w.found[slot] = found
	return nil
}

// usable tells whether an allocated claim lets a pod run on a node. Others are still to be decided about.
func (c *podClaim) usable(node *corev1.Node, now time.Time) bool {
	if c.nodes != nil && !c.nodes.Match(node) {
		return false
	}
	if c.api.Status.Allocation == nil {
		return true
	}
	ready, failed := bindable(c.api)
	return !failed && (ready || !overdue(c.api, now))
}

func claimRefusal(reason string) *refusal {
	return &refusal{reasons: []string{reason}, unresolvable: true}
}

// bindable tells whether the devices of a claim are ready for a pod to be bound, or have failed.
func bindable(claim *resourcev1.ResourceClaim) (ready, failed bool) {
	ready = true
	for i := range claim.Status.Allocation.Devices.Results {
		r := &claim.Status.Allocation.Devices.Results[i]
		if len(r.BindingConditions) == 0 {
			continue
		}
		at := slices.IndexFunc(claim.Status.Devices, func(s resourcev1.AllocatedDeviceStatus) bool {
			return s.Driver == r.Driver && s.Pool == r.Pool && s.Device == r.Device && sameShare(s.ShareID, r)
		})
		if at < 0 {
			ready = false
			continue
		}
		conditions := claim.Status.Devices[at].Conditions
		for _, c := range r.BindingFailureConditions {
			failed = failed || apimeta.IsStatusConditionTrue(conditions, c)
		}
		for _, c := range r.BindingConditions {
			ready = ready && apimeta.IsStatusConditionTrue(conditions, c)
		}
	}
	return ready, failed
}

func sameShare(share *string, r *resourcev1.DeviceRequestAllocationResult) bool {
	if share == nil || r.ShareID == nil {
		return share == nil && r.ShareID == nil
	}
	return *share == string(*r.ShareID)
}

// overdue tells whether devices have taken too long to be ready.
func overdue(claim *resourcev1.ResourceClaim, now time.Time) bool {
	at := claim.Status.Allocation.AllocationTimestamp
	return at != nil && at.Add(bindingTimeout).Before(now)
}

// score prefers nodes that have what a pod would rather have.
func (w *claimedDevices) score(slot int) int64 {
	var sum int64
	results := w.found[slot].results
	for _, c := range w.claims {
		allocation := c.api.Status.Allocation
		if allocation == nil {
			if len(results) == 0 {
				return 0
			}
			allocation, results = &results[0], results[1:]
		}
		given := map[string]bool{}
		for _, r := range allocation.Devices.Results {
			given[r.Request] = true
		}
		for _, r := range c.api.Spec.Devices.Requests {
			for i, s := range r.FirstAvailable {
				if given[resourceclaim.CreateSubRequestRef(r.Name, s.Name)] {
					sum += int64(resourcev1.FirstAvailableDeviceRequestMaxSize - i)
				}
			}
		}
	}
	return sum
}
