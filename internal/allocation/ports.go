package allocation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	errPortsFull     = errors.New("range is full")
	errPortAllocated = errors.New("provided port is already allocated")
	errPortsNotReady = errors.New("allocator not ready")
)

// portBook knows which node ports are taken.
type portBook struct {
	mu          *sync.Mutex
	first, last int32
	used        map[int32]bool // nil until reset
	pending     map[int32]int  // reserved for a write that has not ended
	seen        map[int32]int  // how many stored Services have it, as far as the view has come
	freed       map[int32]int  // given back here, which the view doesn't show yet
}

func newPortBook(first, last int32) portBook {
	return portBook{mu: &sync.Mutex{}, first: first, last: last, pending: map[int32]int{}, seen: map[int32]int{}, freed: map[int32]int{}}
}

// reset makes the ports of these Services, and what writes under way have reserved, the ones that are taken.
func (b *portBook) reset(services []*corev1.Service) {
	used := map[int32]bool{}
	for _, s := range services {
		for _, p := range nodePorts(s) {
			used[p] = true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := range b.pending {
		used[p] = true
	}
	b.used, b.freed = used, map[int32]int{}
}

// observe notes a stored Service's change, whoever made it.
func (b *portBook) observe(before, after []int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range after {
		b.seen[p]++
	}
	for _, p := range before {
		if b.seen[p]--; b.seen[p] <= 0 {
			delete(b.seen, p)
		}
	}
	for _, p := range before {
		if slices.Contains(after, p) {
			continue
		}
		if b.freed[p] > 0 {
			b.freed[p]--
		} else if b.pending[p] == 0 {
			delete(b.used, p)
		}
	}
}

func (b *portBook) take(port int32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used == nil {
		return errPortsNotReady
	}
	if port < b.first || port > b.last {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", b.first, b.last)
	}
	if b.used[port] || b.seen[port] > b.freed[port] {
		return errPortAllocated
	}
	b.used[port] = true
	b.pending[port]++
	return nil
}

// takeAny reserves a port, from the upper part of the range if it can: the lower is for ports that are asked for (KEP-3668).
func (b *portBook) takeAny() (int32, error) {
	size := int(b.last-b.first) + 1
	static := 0
	if size > 32 {
		static = min(max(size/32, 16), 128)
	}
	for _, part := range [][2]int{{static, size}, {0, static}} {
		n := part[1] - part[0]
		if n == 0 {
			continue
		}
		start := rand.IntN(n)
		for i := range n {
			port := b.first + int32(part[0]+(start+i)%n)
			err := b.take(port)
			if err == nil || !errors.Is(err, errPortAllocated) {
				return port, err
			}
		}
	}
	return 0, errPortsFull
}

// settle ends a reservation: the port stays taken if keep.
func (b *portBook) settle(port int32, keep bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending[port]--; b.pending[port] <= 0 {
		delete(b.pending, port)
	}
	if !keep {
		delete(b.used, port)
	}
}

func (b *portBook) free(ports []int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range ports {
		delete(b.used, p)
		b.freed[p]++
	}
}

// nodePorts lists all ports of the nodes that a Service has.
func nodePorts(s *corev1.Service) []int32 {
	var out []int32
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			out = append(out, p.NodePort)
		}
	}
	if s.Spec.HealthCheckNodePort != 0 {
		out = append(out, s.Spec.HealthCheckNodePort)
	}
	return out
}

// assignPorts gives a Service the node ports that its type asks for.
func (a *Allocator) assignPorts(tx *transaction, s, old *corev1.Service, dryRun bool) error {
	var held []int32
	if old != nil {
		held = nodePorts(old)
	}
	take := a.portTaker(tx, dryRun)
	if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		if err := assignServicePorts(s, held, take); err != nil {
			return err
		}
	}
	if needsHealthCheck(s) && !slices.Contains(held, s.Spec.HealthCheckNodePort) {
		port, err := take(s.Spec.HealthCheckNodePort)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %v: %v", s.Spec.HealthCheckNodePort, err))
		}
		s.Spec.HealthCheckNodePort = port
	}
	if dryRun {
		return nil
	}
	kept := nodePorts(s)
	lost := slices.DeleteFunc(held, func(p int32) bool { return slices.Contains(kept, p) })
	tx.onSuccess = append(tx.onSuccess, func() { a.ports.free(lost) })
	return nil
}

// portTaker returns a function that reserves a port, any for 0, until the transaction ends.
func (a *Allocator) portTaker(tx *transaction, dryRun bool) func(int32) (int32, error) {
	return func(port int32) (int32, error) {
		var err error
		if port == 0 {
			port, err = a.ports.takeAny()
		} else {
			err = a.ports.take(port)
		}
		if err != nil {
			return 0, err
		}
		tx.onFailure = append(tx.onFailure, func() { a.ports.settle(port, false) })
		tx.onSuccess = append(tx.onSuccess, func() { a.ports.settle(port, !dryRun) })
		return port, nil
	}
}

func assignServicePorts(s *corev1.Service, held []int32, take func(int32) (int32, error)) error {
	mine := map[int32]bool{}    // node ports that this Service has by now
	byPort := map[int32]int32{} // TCP and UDP of the same port share a node port
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 && byPort[p.Port] == 0 {
			byPort[p.Port] = p.NodePort
		}
	}
	for _, p := range held {
		mine[p] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort == 0 && s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.AllocateLoadBalancerNodePorts != nil && !*s.Spec.AllocateLoadBalancerNodePorts {
			continue
		}
		asked := p.NodePort
		if asked == 0 {
			asked = byPort[p.Port]
		}
		if asked != 0 && mine[asked] {
			p.NodePort = asked
			continue
		}
		port, err := take(asked)
		if err != nil && asked != 0 {
			return invalid(s, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), asked, err.Error()))
		}
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
		}
		p.NodePort, mine[port], byPort[p.Port] = port, true, port
	}
	return nil
}

func needsHealthCheck(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}
