package allocation

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

// Config bounds what is given out.
type Config struct {
	// FirstNodePort and LastNodePort are the range of node ports. Default 30000 to 32767.
	FirstNodePort, LastNodePort int32
	// Store holds the record of node ports, which Transformer encrypts unless it is nil.
	Store       *store.Store
	Transformer store.Transformer
	// Metrics takes what is counted; nil is nobody.
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// Allocator gives Services their addresses and ports. Its methods may be called concurrently.
type Allocator struct {
	cfg       Config
	client    client.Client
	services  client.TypedView[*corev1.Service]
	addresses addressBook
	ports     portBook

	metrics    *metrics
	unrepaired bool // the last repair failed
}

const (
	repairEvery = 3 * time.Minute  // leaks are looked for, as upstream does
	repairAgain = 10 * time.Second // after a failure
)

// New opens the views that allocation needs. The client acts as the API server.
func New(ctx context.Context, c client.Client, cfg Config) (*Allocator, error) {
	if cfg.FirstNodePort == 0 {
		cfg.FirstNodePort, cfg.LastNodePort = 30000, 32767
	}
	a := &Allocator{cfg: cfg, client: c, metrics: newMetrics()}
	var err error
	if a.services, err = client.Services.View(ctx, c, client.Selection{}); err != nil {
		return nil, fmt.Errorf("view services: %w", err)
	}
	if a.addresses, err = newAddressBook(ctx, c); err != nil {
		return nil, err
	}
	a.addresses.metrics = a.metrics
	a.ports = portBook{first: cfg.FirstNodePort, last: cfg.LastNodePort, log: cfg.Logger, metrics: a.metrics, record: &record{
		store: cfg.Store, transformer: cfg.Transformer, spec: fmt.Sprintf("%d-%d", cfg.FirstNodePort, cfg.LastNodePort),
	}}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(append(a.metrics.all(), holdings{a})...)
	}
	return a, nil
}

// Load makes the record of node ports, or repairs it. Where that isn't possible, as on a full disk, Run tries again, and node ports are given
// out as soon as there is a record.
func (a *Allocator) Load(ctx context.Context) error {
	if err := a.services.View.WaitFor(ctx, 0); err != nil {
		return err
	}
	if err := a.repairPorts(ctx); err != nil {
		a.cfg.Logger.Warn("the node ports in use are not known yet", "error", err)
		a.unrepaired = true
	}
	return nil
}

// Run repairs what leaked, until ctx ends.
func (a *Allocator) Run(ctx context.Context) error {
	for {
		wait := repairEvery
		if a.unrepaired {
			wait = repairAgain
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		err := a.repairPorts(ctx)
		if a.unrepaired = err != nil; err != nil && ctx.Err() == nil {
			a.cfg.Logger.Warn("node ports could not be repaired", "error", err)
		}
		a.repairAddresses(ctx)
	}
}

func (a *Allocator) repairPorts(ctx context.Context) error {
	err := a.ports.repair(ctx, func(ctx context.Context) ([]*corev1.Service, error) {
		all, err := client.Services.List(ctx, a.client, "", nil)
		if err != nil {
			return nil, fmt.Errorf("list the services: %w", err)
		}
		return all, nil
	})
	if err != nil && ctx.Err() == nil {
		a.metrics.portFailures.Inc()
	}
	return err
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
			a.ports.free(ctx, heldPorts(s)...)
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
	if err := a.assignPorts(ctx, &tx, s, old, dryRun); err != nil {
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
