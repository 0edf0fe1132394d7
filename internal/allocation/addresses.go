package allocation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/client"
)

// managedBy is the value of the label by which addresses are known as this allocator's: upstream's, so that either can take over.
const managedBy = "ipallocator.k8s.io"

// defaultCIDR is usable before a controller has called it ready, since everything begins with it.
const defaultCIDR = "kubernetes"

var (
	errFull      = errors.New("range is full")
	errAllocated = errors.New("provided IP is already allocated")
	errMismatch  = errors.New("the provided network does not match the current range")
	errNotReady  = errors.New("allocator not ready")
)

var (
	ipAddresses  = client.Kind[*networkingv1.IPAddress]{GVR: networkingv1.SchemeGroupVersion.WithResource("ipaddresses")}
	serviceCIDRs = client.Kind[*networkingv1.ServiceCIDR]{GVR: networkingv1.SchemeGroupVersion.WithResource("servicecidrs")}
)

// addressBook knows the ranges and what is taken.
type addressBook struct {
	client client.Client
	cidrs  client.TypedView[*networkingv1.ServiceCIDR]
	taken  client.TypedView[*networkingv1.IPAddress]

	metrics *metrics
}

func newAddressBook(ctx context.Context, c client.Client) (b addressBook, err error) {
	b.client = c
	if b.cidrs, err = serviceCIDRs.View(ctx, c, client.Selection{}); err != nil {
		return b, fmt.Errorf("view service ranges: %w", err)
	}
	if b.taken, err = ipAddresses.View(ctx, c, client.Selection{}); err != nil {
		return b, fmt.Errorf("view addresses: %w", err)
	}
	return b, nil
}

// ranges returns what may be given out of. Where the view knows of none, which is so in a cluster's first moments, a fresh read decides.
func (b *addressBook) ranges(ctx context.Context) []netip.Prefix {
	known := b.cidrs.List("", nil)
	if len(known) == 0 {
		known, _ = serviceCIDRs.List(ctx, b.client, "", nil)
	}
	var out []netip.Prefix
	for _, c := range known {
		if c.DeletionTimestamp != nil || c.Name != defaultCIDR && !ready(c) {
			continue
		}
		for _, text := range c.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

func ready(c *networkingv1.ServiceCIDR) bool {
	return slices.ContainsFunc(c.Status.Conditions, func(x metav1.Condition) bool {
		return x.Type == networkingv1.ServiceCIDRConditionReady && x.Status == metav1.ConditionTrue
	})
}

// families returns the families that the cluster has, its default one first. The default range decides.
func (b *addressBook) families() []corev1.IPFamily {
	c, ok := b.cidrs.Get("", defaultCIDR)
	if !ok {
		return []corev1.IPFamily{corev1.IPv4Protocol}
	}
	var out []corev1.IPFamily
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, familyOf(p.Addr()))
		}
	}
	return out
}

// assignAddresses reserves an address for each family of a Service that has none.
func (a *Allocator) assignAddresses(ctx context.Context, tx *transaction, s, old *corev1.Service, dryRun bool) error {
	if s.Spec.Type == corev1.ServiceTypeExternalName || headless(s) {
		if old != nil && !dryRun {
			released := clusterIPs(old)
			tx.onSuccess = append(tx.onSuccess, func() { a.addresses.release(context.WithoutCancel(ctx), a.cfg.Logger, s, released) })
		}
		return nil
	}
	var held []netip.Addr
	if old != nil {
		held = clusterIPs(old)
	}
	for i, family := range s.Spec.IPFamilies {
		if i >= len(s.Spec.ClusterIPs) {
			s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "")
		}
		ip, err := netip.ParseAddr(s.Spec.ClusterIPs[i])
		if err == nil && slices.Contains(held, ip) {
			continue
		}
		asked := err == nil
		if asked {
			err = a.addresses.take(ctx, s, ip, dryRun)
		} else {
			ip, err = a.addresses.takeAny(ctx, s, family, dryRun)
		}
		if err != nil {
			return addressError(s, ip, asked, err)
		}
		s.Spec.ClusterIPs[i] = ip.String()
		if !dryRun {
			tx.onFailure = append(tx.onFailure, func() { a.addresses.release(context.WithoutCancel(ctx), a.cfg.Logger, s, []netip.Addr{ip}) })
		}
	}
	if len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	if lost := slices.DeleteFunc(held, func(ip netip.Addr) bool { return slices.Contains(s.Spec.ClusterIPs, ip.String()) }); len(lost) > 0 && !dryRun {
		tx.onSuccess = append(tx.onSuccess, func() { a.addresses.release(context.WithoutCancel(ctx), a.cfg.Logger, s, lost) })
	}
	return nil
}

func addressError(s *corev1.Service, ip netip.Addr, asked bool, err error) error {
	if asked {
		return invalid(s, field.Invalid(addressPath, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %v: %v", ip, err)))
	}
	return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: %w", s.Name, err))
}

// take reserves one address.
func (b *addressBook) take(ctx context.Context, s *corev1.Service, ip netip.Addr, dryRun bool) error {
	ranges := b.ranges(ctx)
	if len(ranges) == 0 {
		return errNotReady
	}
	p := rangeOf(ranges, ip)
	if !p.IsValid() {
		return errMismatch
	}
	began := time.Now()
	err := b.reserve(ctx, s, ip, dryRun)
	if !dryRun {
		b.metrics.address(p.String(), static, began, err)
	}
	return err
}

// reserve takes an address of a known range.
func (b *addressBook) reserve(ctx context.Context, s *corev1.Service, ip netip.Addr, dryRun bool) error {
	if dryRun {
		if _, used := b.taken.Get("", ip.String()); used {
			return errAllocated
		}
		return nil
	}
	_, err := ipAddresses.Create(ctx, b.client, &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name:   ip.String(),
			Labels: map[string]string{networkingv1.LabelIPAddressFamily: string(familyOf(ip)), networkingv1.LabelManagedBy: managedBy},
		},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name}},
	})
	if apierrors.IsAlreadyExists(err) {
		return errAllocated
	}
	return err
}

// takeAny reserves some address of a family: one of the upper part of a range if there is one, the lower being for addresses that are
// asked for by name.
func (b *addressBook) takeAny(ctx context.Context, s *corev1.Service, family corev1.IPFamily, dryRun bool) (netip.Addr, error) {
	ranges := b.ranges(ctx)
	if len(ranges) == 0 {
		return netip.Addr{}, errNotReady
	}
	for _, p := range ranges {
		if familyOf(p.Addr()) != family {
			continue
		}
		began := time.Now()
		ip, err := b.takeFrom(ctx, s, p, dryRun)
		if !dryRun {
			b.metrics.address(p.String(), dynamic, began, err)
		}
		if !errors.Is(err, errFull) {
			return ip, err
		}
	}
	return netip.Addr{}, errFull
}

func (b *addressBook) takeFrom(ctx context.Context, s *corev1.Service, p netip.Prefix, dryRun bool) (netip.Addr, error) {
	size := usable(p)
	for offset := range upperFirst(size, staticPart(size)) {
		ip := nth(p, 1+offset)
		if _, used := b.taken.Get("", ip.String()); used {
			continue
		}
		err := b.reserve(ctx, s, ip, dryRun)
		if !errors.Is(err, errAllocated) {
			return ip, err
		}
	}
	return netip.Addr{}, errFull
}

// upperFirst yields all offsets below size: those from static on first, then those below it, each part from a place at random on.
func upperFirst(size, static uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, part := range [][2]uint64{{static, size}, {0, static}} {
			n := part[1] - part[0]
			if n == 0 {
				continue
			}
			start := rand.Uint64N(n)
			for i := range n {
				if !yield(part[0] + (start+i)%n) {
					return
				}
			}
		}
	}
}

// usable counts the addresses between the network's own and, for IPv4, the broadcast address.
func usable(p netip.Prefix) uint64 {
	bits := p.Addr().BitLen() - p.Bits()
	if bits >= 63 {
		return 1 << 62
	}
	size := uint64(1)<<bits - 1
	if p.Addr().Is4() && size > 1 {
		size--
	}
	return size
}

// staticPart is how many addresses at the start of a range are left to those that ask by name: between 16 and 256, about a
// sixteenth (KEP-3070).
func staticPart(size uint64) uint64 {
	if size <= 16 {
		return 0
	}
	return min(max(size/16, 16), 256)
}

// nth returns the n-th address of a range.
func nth(p netip.Prefix, n uint64) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	sum := new(big.Int).Add(new(big.Int).SetBytes(raw), new(big.Int).SetUint64(n))
	ip, _ := netip.AddrFromSlice(sum.FillBytes(raw))
	return ip
}

// release gives addresses back that belong to a Service.
func (b *addressBook) release(ctx context.Context, log *slog.Logger, s *corev1.Service, all []netip.Addr) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, ip := range all {
		have, err := ipAddresses.Get(ctx, b.client, "", ip.String())
		if err == nil && !belongs(have, s) {
			continue
		}
		if err == nil {
			err = ipAddresses.Delete(ctx, b.client, "", ip.String(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			log.Warn("giving a Service's address back failed; it is tried again later", "service", s.Namespace+"/"+s.Name, "address", ip, "error", err)
		}
	}
}

func belongs(ip *networkingv1.IPAddress, s *corev1.Service) bool {
	ref := ip.Spec.ParentRef
	return ref != nil && ref.Group == "" && ref.Resource == "services" && ref.Namespace == s.Namespace && ref.Name == s.Name
}

// repairAddresses gives back addresses whose Service is gone or has others, and takes those that a Service has but are not reserved.
func (a *Allocator) repairAddresses(ctx context.Context) {
	inUse := map[string]types.NamespacedName{}
	for _, s := range a.services.List("", nil) {
		for _, ip := range clusterIPs(s) {
			inUse[ip.String()] = types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
			if _, ok := a.addresses.taken.Get("", ip.String()); !ok {
				err := a.addresses.take(ctx, s, ip, false)
				if errors.Is(err, errAllocated) {
					err = nil
				}
				a.metrics.foundAddress("repair", err)
				if err != nil {
					a.cfg.Logger.Warn("reserving a Service's address failed", "service", s.Namespace+"/"+s.Name, "address", ip, "error", err)
				}
			}
		}
	}
	for _, ip := range a.addresses.taken.List("", nil) {
		if ip.Labels[networkingv1.LabelManagedBy] != managedBy || time.Since(ip.CreationTimestamp.Time) < repairEvery {
			continue
		}
		owner, used := inUse[ip.Name]
		if used && belongs(ip, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: owner.Namespace, Name: owner.Name}}) {
			continue
		}
		uid := ip.UID
		err := ipAddresses.Delete(ctx, a.client, "", ip.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if apierrors.IsNotFound(err) {
			err = nil
		}
		a.metrics.foundAddress("leak", err)
		if err != nil {
			a.cfg.Logger.Warn("giving a leaked address back failed", "address", ip.Name, "error", err)
		}
	}
}
