package scheduler

import (
	"slices"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	corev1 "k8s.io/api/core/v1"
)

// claimPlan is what must be written of a pod's claims before it is bound.
type claimPlan struct {
	steps    []claimStep
	extended *extendedClaim // is made first: the last of the steps is about it
	waits    bool           // the pod is bound only when its devices say that they are ready
}

// claimStep reserves a claim for the pod, with the devices that it gets unless it has them.
type claimStep struct {
	claim      *resourcev1.ResourceClaim
	allocation *resourcev1.AllocationResult
}

// plan says what is to be written if the pod goes to a node that was found fit.
func (w *claimedDevices) plan(slot int) *claimPlan {
	found := w.found[slot]
	plan := &claimPlan{extended: found.extended}
	results := found.results
	for _, c := range w.claims {
		allocation := c.api.Status.Allocation
		step := claimStep{claim: c.api}
		if allocation == nil {
			allocation, results = &results[0], results[1:]
			step.allocation = allocation
		}
		if step.allocation != nil || !resourceclaim.IsReservedForPod(w.pod, c.api, false) {
			plan.steps = append(plan.steps, step)
		}
		plan.waits = plan.waits || c.waits(step.allocation)
	}
	if found.extended != nil {
		plan.steps = append(plan.steps, claimStep{claim: found.extended.claim, allocation: &results[0]})
	}
	return plan
}

// waits tells whether a claim's devices, those that it has or is given now, are still to become ready.
func (c *podClaim) waits(given *resourcev1.AllocationResult) bool {
	if given != nil {
		return slices.ContainsFunc(given.Devices.Results, func(r resourcev1.DeviceRequestAllocationResult) bool { return len(r.BindingConditions) > 0 })
	}
	ready, _ := bindable(c.api)
	return !ready
}

// assume takes a plan as carried out until the claims are told of anew. It returns how to take that back.
func (c *cluster) assumeClaims(plan *claimPlan, pod *corev1.Pod) (revert func()) {
	var undo []func()
	for _, step := range plan.steps {
		if step.allocation == nil {
			continue
		}
		claim := *step.claim
		claim.Status.Allocation = step.allocation
		key := claimKey(claim.Namespace, claim.Name)
		if claim.Name == "" {
			key = extendedKey(pod.UID) // Its name isn't known yet.
		}
		undo = append(undo, c.devices.Assume(key, &claim))
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}

// extendedKey stands for the claim of a pod's extended resources until the API has given it a name.
func extendedKey(pod types.UID) string { return "/" + string(pod) }

// release is what is taken back of claims so that a pod may fit, and what upstream says about it.
type release struct {
	deallocate *resourcev1.ResourceClaim
	remove     *resourcev1.ResourceClaim
	message    string
}

// release looks for a claim whose devices nobody uses and that kept the pod from a node. A claim of extended resources that was left behind goes, too.
func (w *claimedDevices) release() release {
	for _, c := range w.claims {
		users := c.api.Status.ReservedFor
		if w.unavailable[c] && (len(users) == 0 || len(users) == 1 && users[0].UID == w.pod.UID) {
			return release{deallocate: c.api, message: deallocated}
		}
	}
	if w.extended != nil && w.extended.existing != nil {
		return release{remove: w.extended.existing, message: claimDeleted}
	}
	return release{message: stillUnschedulable}
}

// placeWithClaims is place for a pod with claims: they are written first, and where devices have to become ready the pod goes on waiting for them.
func (s *core) placeWithClaims(p *podInfo, plan *claimPlan, n *node, now time.Time) decision {
	d := decision{pod: p, node: n.api.Name, claims: plan}
	p.unassume = s.cluster.assumeClaims(plan, p.pod)
	if plan.waits {
		p.attempts--
		s.queue.refuse(p, claimsChanged, nil, now)
		p.readyAt = now
		s.nominate(p, n.api.Name)
		return d
	}
	p.node = n.api.Name
	s.cluster.addPod(p)
	return d
}

// freeable is what of the pod's claims can be taken back. Where another rule refuses the pod before any node is looked at, claims aren't known, and in
// upstream nothing that would come after them happens either.
func (k *class) freeable() release {
	switch {
	case k.claims != nil:
		return k.claims.release()
	case k.rejected != nil && k.rejected.plugin != dynamicResourcesName:
		return release{message: notFound}
	}
	return release{message: nothingToDeallocate}
}
