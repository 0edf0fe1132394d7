package plugins

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/quota"
)

// ResourceQuota lets no request use more than the quotas of its namespace leave. It reserves what a request uses by writing it into the
// quota's status, on condition that nobody else did meanwhile, before the object is stored, and gives it back if it isn't.
type ResourceQuota struct {
	client  client.Client
	quotas  client.TypedView[*corev1.ResourceQuota]
	devices quota.Devices
	ledger  *quota.Ledger
	now     func() time.Time

	// locks let the requests of one namespace reserve one after the other.
	locks [64]sync.Mutex
	// written are the quotas as they were last written here, which the view may not show yet: types.UID → *corev1.ResourceQuota.
	written sync.Map
	// reserved is what requests under way have: *admission.Request → []*quota.Reservation.
	reserved sync.Map
}

var (
	_ admission.Validator = (*ResourceQuota)(nil)
	_ admission.Finisher  = (*ResourceQuota)(nil)
)

var resourceQuotas = client.Kind[*corev1.ResourceQuota]{GVR: corev1.SchemeGroupVersion.WithResource("resourcequotas")}

const (
	// quotaAttempts bounds how often a reservation is tried anew because another server changed the quota.
	quotaAttempts = 5
	giveBackTime  = 10 * time.Second
)

// Name implements admission.Plugin.
func (*ResourceQuota) Name() string { return "ResourceQuota" }

// Handles implements admission.Selective.
func (*ResourceQuota) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate implements admission.Validator.
func (p *ResourceQuota) Validate(ctx context.Context, r *admission.Request) error {
	if r.Namespace == "" || r.Object == nil || r.Operation != admission.Create && r.Operation != admission.Update || ignoredByQuota[groupResource(r)] {
		return nil
	}
	if len(p.quotas.View.Items(r.Namespace, nil)) == 0 {
		return nil
	}
	e := quota.For(groupResource(r), p.devices)
	req := quota.Request{Create: r.Operation == admission.Create, Subresource: r.Subresource, Object: r.Object, Old: r.OldObject, Now: p.now()}
	if !e.Handles(req) {
		return nil
	}
	lock := p.lock(r.Namespace)
	lock.Lock()
	defer lock.Unlock()
	for attempt := range quotaAttempts {
		quotas, err := p.current(ctx, r.Namespace, attempt > 0)
		if err != nil {
			return err
		}
		claims, err := quota.Check(quotas, e, req)
		if err != nil {
			return forbid(r, err)
		}
		if r.DryRun || len(claims) == 0 {
			return nil
		}
		if err = p.reserve(ctx, r, claims); err == nil || !apierrors.IsConflict(err) {
			return err
		}
	}
	return apierrors.NewConflict(resourceQuotas.GVR.GroupResource(), nameOf(r), fmt.Errorf("the namespace's quotas are changing too fast; please try again"))
}

// ignoredByQuota are resources that no quota counts: what comes and goes without anybody asking for it.
var ignoredByQuota = map[schema.GroupResource]bool{
	{Resource: "events"}:                         true,
	{Group: "events.k8s.io", Resource: "events"}: true,
	{Resource: "bindings"}:                       true,
	{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"}: true,
}

func (p *ResourceQuota) lock(namespace string) *sync.Mutex {
	h := fnv.New32a()
	h.Write([]byte(namespace))
	return &p.locks[h.Sum32()%uint32(len(p.locks))]
}

// current returns the namespace's quotas as they are stored; fresh asks the database.
func (p *ResourceQuota) current(ctx context.Context, namespace string, fresh bool) ([]*corev1.ResourceQuota, error) {
	if fresh {
		return resourceQuotas.List(ctx, p.client, namespace, nil)
	}
	quotas := p.quotas.List(namespace, nil)
	for i, q := range quotas {
		w, ok := p.written.Load(q.UID)
		if !ok {
			continue
		}
		if newer := w.(*corev1.ResourceQuota); version(newer) > version(q) {
			quotas[i] = newer
		} else {
			p.written.Delete(q.UID)
		}
	}
	return quotas, nil
}

func version(q *corev1.ResourceQuota) int64 {
	n, _ := strconv.ParseInt(q.ResourceVersion, 10, 64)
	return n
}

// reserve writes the new usage into all the quotas, or into none.
func (p *ResourceQuota) reserve(ctx context.Context, r *admission.Request, claims []quota.Claim) error {
	var held []*quota.Reservation
	for _, c := range claims {
		res := &quota.Reservation{Namespace: r.Namespace, Quota: c.Quota.Name, Delta: c.Delta, Resource: groupResource(r)}
		if r.Operation == admission.Create {
			res.Name = objectName(r)
		}
		p.ledger.Reserve(res)
		updated, err := resourceQuotas.UpdateStatus(ctx, p.client, c.Quota)
		if err != nil {
			p.ledger.Release(res)
			p.giveBack(ctx, held)
			return err
		}
		p.ledger.Claimed(res)
		p.written.Store(updated.UID, updated)
		held = append(held, res)
	}
	p.reserved.Store(r, held)
	return nil
}

// Finish implements admission.Finisher.
func (p *ResourceQuota) Finish(ctx context.Context, r *admission.Request, committed bool) {
	held, ok := p.reserved.LoadAndDelete(r)
	if !ok {
		return
	}
	if committed {
		for _, res := range held.([]*quota.Reservation) {
			p.ledger.Commit(res, p.now())
		}
		return
	}
	lock := p.lock(r.Namespace)
	lock.Lock()
	defer lock.Unlock()
	p.giveBack(ctx, held.([]*quota.Reservation))
}

// giveBack takes reservations out of the quotas again, though the request that made them may be over. What it cannot take out, the controller
// finds unused.
func (p *ResourceQuota) giveBack(ctx context.Context, held []*quota.Reservation) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
	defer cancel()
	for _, res := range held {
		p.ledger.Release(res)
		for range quotaAttempts {
			q, err := resourceQuotas.Get(ctx, p.client, res.Namespace, res.Quota)
			if err != nil {
				break
			}
			next := q.DeepCopy()
			next.Status.Used = quota.Add(q.Status.Used, nil)
			for name, left := range quota.Subtract(quota.Mask(q.Status.Used, quota.Names(res.Delta)), res.Delta) {
				next.Status.Used[name] = left
			}
			updated, err := resourceQuotas.UpdateStatus(ctx, p.client, next)
			if err == nil {
				p.written.Store(types.UID(updated.UID), updated)
			}
			if !apierrors.IsConflict(err) {
				break
			}
		}
	}
}
