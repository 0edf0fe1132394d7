package node

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

// keepLease renews the node's lease, which tells the control plane that the node is alive.
func (m *Manager) keepLease(ctx context.Context) {
	var lease *coordinationv1.Lease
	for {
		next, err := m.renew(ctx, lease)
		interval := m.cfg.LeaseDuration / 4
		if err != nil {
			if ctx.Err() == nil {
				m.cfg.Logger.Warn("lease not renewed", "error", err)
			}
			interval = time.Second
		}
		lease = next
		timer := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// renew writes the lease on the basis of the last one that was written, and returns the next basis.
func (m *Manager) renew(ctx context.Context, last *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if last != nil {
		next := last.DeepCopy()
		m.fill(next)
		written, err := client.Leases.Update(ctx, m.cfg.Client, next)
		if err != nil {
			return nil, fmt.Errorf("renew the node's lease: %w", err)
		}
		return written, nil
	}
	existing, err := client.Leases.Get(ctx, m.cfg.Client, corev1.NamespaceNodeLease, m.cfg.Name)
	if err == nil {
		return m.renew(ctx, existing)
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read the node's lease: %w", err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: m.cfg.Name, Namespace: corev1.NamespaceNodeLease}}
	m.fill(lease)
	created, err := client.Leases.Create(ctx, m.cfg.Client, lease)
	if err != nil {
		return nil, fmt.Errorf("create the node's lease: %w", err)
	}
	return created, nil
}

func (m *Manager) fill(l *coordinationv1.Lease) {
	seconds, now := int32(m.cfg.LeaseDuration/time.Second), metav1.NowMicro()
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &m.cfg.Name, &seconds, &now
	if node := m.Node(); node != nil && len(l.OwnerReferences) == 0 {
		l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	}
}
