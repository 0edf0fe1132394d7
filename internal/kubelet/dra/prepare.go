package dra

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	drapb "k8s.io/kubelet/pkg/apis/dra/v1"

	"clipper.dev/clipper/internal/client"
)

// Uses tells whether a pod has claims.
func Uses(pod *corev1.Pod) bool {
	return len(pod.Spec.ResourceClaims) > 0 || pod.Status.ExtendedResourceClaimStatus != nil
}

// podClaims are the claims that a pod names, and the one that stands for its extended resources.
func podClaims(pod *corev1.Pod) []corev1.PodResourceClaim {
	s := pod.Status.ExtendedResourceClaimStatus
	if s == nil {
		return pod.Spec.ResourceClaims
	}
	return append(pod.Spec.ResourceClaims[:len(pod.Spec.ResourceClaims):len(pod.Spec.ResourceClaims)], corev1.PodResourceClaim{ResourceClaimName: &s.ResourceClaimName})
}

// Prepare has all claims of a pod prepared by their drivers. What is prepared already isn't prepared again.
func (m *Manager) Prepare(ctx context.Context, pod *corev1.Pod) error {
	if !Uses(pod) {
		return nil
	}
	begun := time.Now()
	err := m.prepare(ctx, pod)
	m.metrics.operation("PrepareResources", begun, err)
	if err != nil {
		return fmt.Errorf("prepare dynamic resources: %w", err)
	}
	return nil
}

func (m *Manager) prepare(ctx context.Context, pod *corev1.Pod) error {
	wanted, err := m.wanted(ctx, pod)
	if err != nil {
		return err
	}
	plugins := map[string]*plugin{}
	keys := make([]string, len(wanted))
	for i, c := range wanted {
		keys[i] = key(c.Namespace, c.ClaimName)
		for name := range c.DriverState {
			if plugins[name], err = m.plugin(name); err != nil {
				return err
			}
		}
	}
	defer m.busy.lock(keys)()
	batches, err := m.note(wanted, pod.UID)
	if err != nil {
		return err
	}
	for name, batch := range batches {
		if err := m.prepareBatch(ctx, plugins[name], batch); err != nil {
			return err
		}
	}
	return m.claims.update(func(all map[string]*Claim) error {
		for _, k := range keys {
			all[k].prepared = true
		}
		return nil
	})
}

// wanted returns what a pod's claims were given, which has to be reserved for it.
func (m *Manager) wanted(ctx context.Context, pod *corev1.Pod) ([]*Claim, error) {
	var out []*Claim
	list := podClaims(pod)
	for i := range list {
		name, owned, err := resourceclaim.Name(pod, &list[i])
		if err != nil {
			return nil, err
		}
		if name == nil {
			continue
		}
		claim, err := client.ResourceClaims.Get(ctx, m.cfg.Client, pod.Namespace, *name)
		if err != nil {
			return nil, fmt.Errorf("fetch ResourceClaim %s: %w", *name, err)
		}
		if owned {
			if err := resourceclaim.IsForPod(pod, claim, false); err != nil {
				return nil, err
			}
		}
		if !resourceclaim.IsReservedForPod(pod, claim, false) {
			return nil, fmt.Errorf("pod %s (%s) is not allowed to use ResourceClaim %s (%s)", pod.Name, pod.UID, *name, claim.UID)
		}
		c, err := of(claim)
		if err != nil {
			return nil, fmt.Errorf("ResourceClaim %s: %w", claim.Name, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// note stores that a pod uses claims, before any driver hears of it, and returns what is left to prepare, by driver.
func (m *Manager) note(wanted []*Claim, pod types.UID) (map[string][]*drapb.Claim, error) {
	batches := map[string][]*drapb.Claim{}
	err := m.claims.update(func(all map[string]*Claim) error {
		for _, c := range wanted {
			if known := all[key(c.Namespace, c.ClaimName)]; known != nil && known.ClaimUID != c.ClaimUID {
				return fmt.Errorf("old ResourceClaim with same name %s and different UID %s still exists (previous pod force-deleted?!)", c.ClaimName, known.ClaimUID)
			}
		}
		seen := map[*Claim]bool{}
		for _, c := range wanted {
			k := key(c.Namespace, c.ClaimName)
			if all[k] == nil {
				all[k] = c
			}
			known := all[k]
			known.PodUIDs.Insert(string(pod))
			if known.prepared || seen[known] {
				continue
			}
			seen[known] = true
			for driver := range known.DriverState {
				batches[driver] = append(batches[driver], &drapb.Claim{Namespace: c.Namespace, Uid: string(c.ClaimUID), Name: c.ClaimName})
			}
		}
		return nil
	})
	return batches, err
}

func (m *Manager) prepareBatch(ctx context.Context, p *plugin, batch []*drapb.Claim) error {
	response, err := p.prepare(ctx, &drapb.NodePrepareResourcesRequest{Claims: batch})
	if err != nil {
		return fmt.Errorf("NodePrepareResources: %w", err)
	}
	for uid, result := range response.Claims {
		asked := find(batch, uid)
		if asked == nil {
			return fmt.Errorf("NodePrepareResources returned result for unknown claim UID %s", uid)
		}
		if result.GetError() != "" {
			return fmt.Errorf("NodePrepareResources failed for ResourceClaim %s: %s", asked.Name, result.Error)
		}
		devices := make([]Device, 0, len(result.GetDevices()))
		for _, d := range result.GetDevices() {
			devices = append(devices, Device{
				PoolName: d.PoolName, DeviceName: d.DeviceName, ShareID: (*types.UID)(d.ShareId), RequestNames: d.RequestNames, CDIDeviceIDs: d.CdiDeviceIds,
			})
		}
		err := m.claims.update(func(all map[string]*Claim) error {
			all[key(asked.Namespace, asked.Name)].DriverState[p.driver] = DriverState{Devices: devices}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if skipped := len(batch) - len(response.Claims); skipped != 0 {
		return fmt.Errorf("NodePrepareResources skipped %d ResourceClaims", skipped)
	}
	return nil
}

func find(batch []*drapb.Claim, uid string) *drapb.Claim {
	for _, c := range batch {
		if c.Uid == uid {
			return c
		}
	}
	return nil
}

// Unprepare ends a pod's use of its claims. Those that it was the last to use are unprepared and forgotten.
func (m *Manager) Unprepare(ctx context.Context, pod types.UID) error {
	var keys []string
	m.claims.read(func(all map[string]*Claim) {
		for k, c := range all {
			if c.PodUIDs.Has(string(pod)) {
				keys = append(keys, k)
			}
		}
	})
	if len(keys) == 0 {
		return nil
	}
	begun := time.Now()
	err := m.unprepare(ctx, pod, keys)
	m.metrics.operation("UnprepareResources", begun, err)
	if err != nil {
		return fmt.Errorf("unprepare dynamic resources: %w", err)
	}
	return nil
}

func (m *Manager) unprepare(ctx context.Context, pod types.UID, keys []string) error {
	defer m.busy.lock(keys)()
	batches := map[string][]*drapb.Claim{}
	m.claims.read(func(all map[string]*Claim) {
		for _, k := range keys {
			c := all[k]
			if c == nil || !c.PodUIDs.Has(string(pod)) || len(c.PodUIDs) > 1 {
				continue
			}
			for driver := range c.DriverState {
				batches[driver] = append(batches[driver], &drapb.Claim{Namespace: c.Namespace, Uid: string(c.ClaimUID), Name: c.ClaimName})
			}
		}
	})
	for name, batch := range batches {
		if err := m.unprepareBatch(ctx, name, batch); err != nil {
			return err
		}
	}
	return m.claims.update(func(all map[string]*Claim) error {
		for _, k := range keys {
			if c := all[k]; c != nil {
				if c.PodUIDs.Delete(string(pod)); len(c.PodUIDs) == 0 {
					delete(all, k)
				}
			}
		}
		return nil
	})
}

func (m *Manager) unprepareBatch(ctx context.Context, driver string, batch []*drapb.Claim) error {
	p, err := m.plugin(driver)
	if err != nil {
		return err
	}
	response, err := p.unprepare(ctx, &drapb.NodeUnprepareResourcesRequest{Claims: batch})
	if err != nil {
		return fmt.Errorf("NodeUnprepareResources: %w", err)
	}
	for uid, result := range response.Claims {
		asked := find(batch, uid)
		if asked == nil {
			return fmt.Errorf("NodeUnprepareResources returned result for unknown claim UID %s", uid)
		}
		if result.GetError() != "" {
			return fmt.Errorf("NodeUnprepareResources failed for ResourceClaim %s: %s", asked.Name, result.Error)
		}
	}
	if skipped := len(batch) - len(response.Claims); skipped != 0 {
		return fmt.Errorf("NodeUnprepareResources skipped %d ResourceClaims", skipped)
	}
	return nil
}

// visit looks at a claim; false if it isn't known here.
func (m *Manager) visit(namespace, name string, look func(*Claim)) bool {
	found := false
	m.claims.read(func(all map[string]*Claim) {
		if c := all[key(namespace, name)]; c != nil {
			found = true
			look(c)
		}
	})
	return found
}
