package crd

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/hook"
)

// Definitions is the kind that the package works on.
var Definitions = client.Kind[*apiextensionsv1.CustomResourceDefinition]{GVR: apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")}

// Server is what the package needs of the engine.
type Server interface {
	ReplaceRow(ctx context.Context, row *api.Resource) error
	RemoveRow(gr kschema.GroupResource) error
}

// Config says what a Manager works with. All fields are required.
type Config struct {
	Server Server
	Client client.Client // the engine's own
	Hooks  *hook.Caller  // for conversions
	// Metrics takes the conversions' metrics; nil is none.
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// Manager keeps what is served in step with the definitions. Make it with New.
type Manager struct {
	cfg         Config
	conversions *conversionMetrics
	view        client.TypedView[*definition]
	queue       workqueue.TypedRateLimitingInterface[string]

	mu       sync.Mutex // guards what follows
	serving  map[string]*served
	cleaning map[string]bool
}

// New serves the definitions that are established already.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, conversions: newConversionMetrics(cfg.Metrics), serving: map[string]*served{}, cleaning: map[string]bool{}}
	var err error
	if m.view, err = Definitions.View(ctx, cfg.Client, client.Selection{}); err != nil {
		return nil, fmt.Errorf("view definitions of custom resources: %w", err)
	}
	if err := m.view.View.WaitFor(ctx, 0); err != nil {
		return nil, err
	}
	for _, d := range m.view.List("", nil) {
		if !apihelpers.IsCRDConditionTrue(d, apiextensionsv1.Established) {
			continue
		}
		if err := m.publish(ctx, d); err != nil {
			cfg.Logger.Error("a custom resource is not served", "definition", d.Name, "error", err)
		}
	}
	m.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	return m, nil
}

// Run works until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return m.view.View.Subscribe(ctx, func(c client.Change) {
			if c.New != nil {
				m.queue.Add(c.New.Name())
				return
			}
			m.queue.Add(c.Old.Name())
		})
	})
	g.Go(func() error {
		<-ctx.Done()
		m.queue.ShutDown()
		return nil
	})
	g.Go(func() error {
		for m.step(ctx, g) {
		}
		return nil
	})
	return g.Wait()
}

func (m *Manager) step(ctx context.Context, g *errgroup.Group) bool {
	name, shutdown := m.queue.Get()
	if shutdown {
		return false
	}
	defer m.queue.Done(name)
	if err := m.reconcile(ctx, g, name); err != nil && ctx.Err() == nil {
		if !apierrors.IsConflict(err) {
			m.cfg.Logger.Warn("a definition of a custom resource is tried again", "definition", name, "error", err)
		}
		m.queue.AddRateLimited(name)
		return true
	}
	m.queue.Forget(name)
	return true
}

// reconcile makes what is served follow one definition. Names are granted by a fresh list, one definition at a time.
func (m *Manager) reconcile(ctx context.Context, g *errgroup.Group, name string) error {
	all, err := Definitions.List(ctx, m.cfg.Client, "", nil)
	if err != nil {
		return err
	}
	var d *definition
	for _, one := range all {
		if one.Name == name {
			d = one
		}
	}
	if d == nil {
		return m.retire(name, all)
	}
	next := nextStatus(d, all)
	if apihelpers.IsCRDConditionTrue(next, apiextensionsv1.Established) {
		// Served first, told then: who waits for the condition finds the kind.
		if err := m.publish(ctx, next); err != nil {
			return fmt.Errorf("serve %s: %w", name, err)
		}
	}
	if d.DeletionTimestamp != nil {
		m.clean(ctx, g, d)
		return nil
	}
	if equality.Semantic.DeepEqual(d.Status, next.Status) {
		return nil
	}
	if _, err := Definitions.UpdateStatus(ctx, m.cfg.Client, next); err != nil {
		return err
	}
	m.again(all, d)
	return nil
}

// retire stops serving a definition that is gone. Its names are free for others.
func (m *Manager) retire(name string, all []*definition) error {
	m.mu.Lock()
	s := m.serving[name]
	delete(m.serving, name)
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	m.again(all, s.definition)
	if s.row == nil {
		return nil
	}
	return m.cfg.Server.RemoveRow(kschema.GroupResource{Group: s.row.Group, Resource: s.row.Name})
}

// again has the other definitions of a group looked at whose names were refused.
func (m *Manager) again(all []*definition, d *definition) {
	for _, other := range all {
		if other.Spec.Group == d.Spec.Group && other.Name != d.Name && !apihelpers.IsCRDConditionTrue(other, apiextensionsv1.NamesAccepted) {
			m.queue.Add(other.Name)
		}
	}
}

// publish serves a definition as it is now, if it isn't served that way already.
func (m *Manager) publish(ctx context.Context, d *definition) error {
	m.mu.Lock()
	old := m.serving[d.Name]
	m.mu.Unlock()
	if old != nil && old.definition.UID == d.UID && equality.Semantic.DeepEqual(old.definition.Spec, d.Spec) &&
		equality.Semantic.DeepEqual(old.definition.Status.AcceptedNames, d.Status.AcceptedNames) {
		old.terminating.Store(d.DeletionTimestamp != nil)
		return nil
	}
	s := serve(d, m.cfg.Hooks, m.conversions)
	s.terminating.Store(d.DeletionTimestamp != nil)
	if err := m.swap(ctx, old, s); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.serving[d.Name] = s
	return nil
}

func (m *Manager) swap(ctx context.Context, old, s *served) error {
	if s.row != nil {
		return m.cfg.Server.ReplaceRow(ctx, s.row)
	}
	if old != nil && old.row != nil {
		return m.cfg.Server.RemoveRow(kschema.GroupResource{Group: old.row.Group, Resource: old.row.Name})
	}
	return nil
}
