package allocation

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/client"
)

// Config bounds what is given out.
type Config struct {
	// FirstNodePort and LastNodePort are the range of node ports. Default 30000 to 32767.
	FirstNodePort, LastNodePort int32
	Logger                      *slog.Logger
}

// Allocator gives Services their addresses and ports. Its methods may be called concurrently.
type Allocator struct {
	cfg       Config
	client    client.Client
	services  client.TypedView[*corev1.Service]
	addresses addressBook
	ports     portBook
}

// repairEvery is how often leaks are looked for, as upstream does.
const repairEvery = 3 * time.Minute

// New opens the views that allocation needs. The client acts as the API server.
func New(ctx context.Context, c client.Client, cfg Config) (*Allocator, error) {
	if cfg.FirstNodePort == 0 {
		cfg.FirstNodePort, cfg.LastNodePort = 30000, 32767
	}
	a := &Allocator{cfg: cfg, client: c}
	var err error
	if a.services, err = client.Services.View(ctx, c, client.Selection{}); err != nil {
		return nil, fmt.Errorf("view services: %w", err)
	}
	if a.addresses, err = newAddressBook(ctx, c); err != nil {
		return nil, err
	}
	a.ports = newPortBook(cfg.FirstNodePort, cfg.LastNodePort)
	return a, nil
}

// Load learns what is in use. Hooks fail until it has returned.
func (a *Allocator) Load(ctx context.Context) error {
	if err := a.services.View.WaitFor(ctx, 0); err != nil {
		return err
	}
	a.ports.reset(a.services.List("", nil))
	return nil
}

// Run follows the Services and repairs what leaked, until ctx ends.
func (a *Allocator) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.follow(ctx) })
	g.Go(func() error { return a.repair(ctx) })
	return g.Wait()
}

// follow learns which ports other servers of the database give out and take back.
func (a *Allocator) follow(ctx context.Context) error {
	err := a.services.View.Subscribe(ctx, func(c client.Change) {
		a.ports.observe(portsOf(c.Old), portsOf(c.New))
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func portsOf(i client.Item) []int32 {
	if i == nil {
		return nil
	}
	return nodePorts(i.Object().(*corev1.Service))
}

func (a *Allocator) repair(ctx context.Context) error {
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.ports.reset(a.services.List("", nil))
			a.repairAddresses(ctx)
		}
	}
}

// Hooks reserve before a Service is stored and give back after it is gone.
func (a *Allocator) Hooks() api.Hooks {
	return api.Hooks{
		BeginCreate: func(ctx context.Context, _ api.Env, obj api.Object, dryRun bool) (func(bool), error) {
			return a.begin(ctx, obj.(*corev1.Service), nil, dryRun)
		},
		BeginUpdate: func(ctx context.Context, _ api.Env, new, old api.Object, dryRun bool) (func(bool), error) {
			return a.begin(ctx, new.(*corev1.Service), old.(*corev1.Service), dryRun)
		},
		AfterDelete: func(ctx context.Context, _ api.Env, obj api.Object) {
			s := obj.(*corev1.Service)
			a.ports.free(nodePorts(s))
			a.addresses.release(ctx, a.cfg.Logger, s, clusterIPs(s))
		},
	}
}

// begin fills in the families, addresses and ports of s; old is nil for a new Service. What it reserved is given back, and what the
// update no longer needs, when the returned function is called.
func (a *Allocator) begin(ctx context.Context, s, old *corev1.Service, dryRun bool) (finish func(committed bool), err error) {
	core.KeepAllocated(s, old)
	if err := a.initFamilies(s, old); err != nil {
		return nil, err
	}
	var tx transaction
	defer func() {
		if err != nil {
			tx.end(false)
		}
	}()
	if err := a.assignAddresses(ctx, &tx, s, old, dryRun); err != nil {
		return nil, err
	}
	if err := a.assignPorts(&tx, s, old, dryRun); err != nil {
		return nil, err
	}
	return tx.end, nil
}

// transaction is what to do when a write has failed or succeeded.
type transaction struct {
	onFailure, onSuccess []func()
}

func (t *transaction) end(committed bool) {
	do := t.onFailure
	if committed {
		do = t.onSuccess
	}
	for _, f := range slices.Backward(do) {
		f()
	}
}

func invalid(s *corev1.Service, errs ...*field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, s.Name, errs)
}

// clusterIPs returns the addresses that a Service holds.
func clusterIPs(s *corev1.Service) []netip.Addr {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var out []netip.Addr
	for _, text := range s.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(text); err == nil {
			out = append(out, ip)
		}
	}
	return out
}

// headless tells whether a Service has no address of its own by intent.
func headless(s *corev1.Service) bool { return s.Spec.ClusterIP == corev1.ClusterIPNone }
