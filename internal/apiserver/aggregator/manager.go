package aggregator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	apidiscovery "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	registrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/hook"
)

// Services is the kind that the package works on.
var Services = client.Kind[*registrationv1.APIService]{GVR: registrationv1.SchemeGroupVersion.WithResource("apiservices")}

// recheck is how often a remote server is asked whether it is there.
const recheck = 30 * time.Second

// Config says what a Manager works with. All fields are required.
type Config struct {
	Client   client.Client // the engine's own
	Local    func() []schema.GroupVersion
	Resolver *hook.Resolver
	// ClientTLS carries the front proxy's client certificate.
	ClientTLS *tls.Config
	Metrics   prometheus.Registerer
	Logger    *slog.Logger
}

// Manager knows the remote servers. Make it with New.
type Manager struct {
	cfg      Config
	services client.TypedView[*registrationv1.APIService]
	queue    workqueue.TypedRateLimitingInterface[string]
	gone     chan struct{} // has a token when an APIService has been deleted
	missing  *prometheus.CounterVec

	mu      sync.Mutex
	remotes map[schema.GroupVersion]*remote
}

var _ apiserver.Remotes = (*Manager)(nil)

// A remote server, as it was found last.
type remote struct {
	apiserver.Remote
	spec      registrationv1.APIServiceSpec
	resources []apidiscovery.APIResourceDiscovery
	documents *documents // nil if it has none
}

// New returns a manager that knows the APIServices there are.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	view, err := Services.View(ctx, cfg.Client, client.Selection{})
	if err != nil {
		return nil, fmt.Errorf("view APIServices: %w", err)
	}
	m := &Manager{
		cfg: cfg, services: view, remotes: map[schema.GroupVersion]*remote{}, gone: make(chan struct{}, 1),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]()),
	}
	m.missing = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "aggregator_unavailable_apiservice_total", Help: "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
	}, []string{"name", "reason"})
	cfg.Metrics.MustRegister(m.missing, availability{m})
	for _, s := range view.List("", nil) {
		m.know(s)
	}
	return m, nil
}

// Remote implements apiserver.Remotes.
func (m *Manager) Remote(gv schema.GroupVersion) (apiserver.Remote, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.remotes[gv]
	if !ok {
		return apiserver.Remote{}, false
	}
	return r.Remote, true
}

// Discovery implements apiserver.Remotes.
func (m *Manager) Discovery() []apidiscovery.APIGroupDiscovery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return discoveryOf(m.remotes)
}

// Run works until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.services.View.Subscribe(ctx, func(c client.Change) { m.queue.Add(nameOf(c)) }) })
	g.Go(func() error { return m.followEndpoints(ctx) })
	g.Go(func() error { return m.register(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		m.queue.ShutDown()
		return nil
	})
	g.Go(func() error {
		for m.step(ctx) {
		}
		return nil
	})
	return g.Wait()
}

func nameOf(c client.Change) string {
	if c.New != nil {
		return c.New.Name()
	}
	return c.Old.Name()
}

// followEndpoints looks again at the APIServices behind a Service whose endpoints change.
func (m *Manager) followEndpoints(ctx context.Context) error {
	view, err := client.EndpointSlices.View(ctx, m.cfg.Client, client.Selection{})
	if err != nil {
		return err
	}
	return view.View.Subscribe(ctx, func(c client.Change) {
		slice := c.New
		if slice == nil {
			slice = c.Old
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		for gv, r := range m.remotes {
			if s := r.spec.Service; s.Namespace == slice.Namespace() && s.Name == slice.Labels()[discoveryv1.LabelServiceName] {
				m.queue.Add(gv.Version + "." + gv.Group)
			}
		}
	})
}

func (m *Manager) step(ctx context.Context) bool {
	name, shutdown := m.queue.Get()
	if shutdown {
		return false
	}
	defer m.queue.Done(name)
	if err := m.reconcile(ctx, name); err != nil && ctx.Err() == nil {
		if !apierrors.IsConflict(err) {
			m.cfg.Logger.Warn("an APIService is tried again", "name", name, "error", err)
		}
		m.queue.AddRateLimited(name)
		return true
	}
	m.queue.Forget(name)
	return true
}

func (m *Manager) reconcile(ctx context.Context, name string) error {
	s, ok := m.services.Get("", name)
	if !ok {
		m.forget(name)
		select {
		case m.gone <- struct{}{}: // what it stood for may be served here
		default:
		}
		return nil
	}
	r := m.know(s)
	if r == nil {
		return nil
	}
	m.queue.AddAfter(name, recheck)
	found, resources := m.examine(ctx, s, r)
	described := r.documents // only this writes it, for one name at a time
	if found.Status == registrationv1.ConditionTrue {
		described = m.describe(ctx, s, r)
	}
	m.mu.Lock()
	r.Available, r.resources, r.documents = found.Status == registrationv1.ConditionTrue, resources, described
	m.mu.Unlock()
	return m.tell(ctx, s, found)
}

// know takes note of an APIService; nil if it is served here.
func (m *Manager) know(s *registrationv1.APIService) *remote {
	gv := schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Spec.Service == nil {
		delete(m.remotes, gv)
		return nil
	}
	old := m.remotes[gv]
	r := m.newRemote(s)
	if old != nil {
		r.Available, r.resources, r.documents = old.Available, old.resources, old.documents
		if sameTarget(&old.spec, &r.spec) {
			r.Remote.Transport, r.Remote.TLS, r.Remote.Address = old.Transport, old.TLS, old.Address
		}
	} else {
		r.Available = available(s)
	}
	m.remotes[gv] = r
	return r
}

func sameTarget(a, b *registrationv1.APIServiceSpec) bool {
	return *a.Service.Port == *b.Service.Port && a.Service.Name == b.Service.Name && a.Service.Namespace == b.Service.Namespace &&
		string(a.CABundle) == string(b.CABundle) && a.InsecureSkipTLSVerify == b.InsecureSkipTLSVerify
}

func available(s *registrationv1.APIService) bool {
	for _, c := range s.Status.Conditions {
		if c.Type == registrationv1.Available {
			return c.Status == registrationv1.ConditionTrue
		}
	}
	return false
}

func (m *Manager) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for gv := range m.remotes {
		if gv.Version+"."+gv.Group == name {
			delete(m.remotes, gv)
		}
	}
}

func (m *Manager) newRemote(s *registrationv1.APIService) *remote {
	service := *s.Spec.Service
	port := int32(443)
	if service.Port != nil {
		port = *service.Port
	}
	service.Port = &port
	host := service.Name + "." + service.Namespace + ".svc"
	cfg := m.cfg.ClientTLS.Clone()
	cfg.ServerName, cfg.InsecureSkipVerify, cfg.RootCAs = host, s.Spec.InsecureSkipTLSVerify, nil //nolint:gosec // as the APIService says
	if len(s.Spec.CABundle) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		cfg.RootCAs.AppendCertsFromPEM(s.Spec.CABundle)
	}
	address := func() (string, error) { return m.cfg.Resolver.Resolve(service.Namespace, service.Name, port) }
	r := &remote{spec: *s.Spec.DeepCopy()}
	r.spec.Service = &service
	r.Remote = apiserver.Remote{Host: net.JoinHostPort(host, strconv.Itoa(int(port))), Address: address, TLS: cfg, Transport: &http.Transport{
		TLSClientConfig: cfg, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			to, err := address()
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, to)
		},
	}}
	return r
}

// examine finds out whether a remote server is there, and what it serves.
func (m *Manager) examine(ctx context.Context, s *registrationv1.APIService, r *remote) (registrationv1.APIServiceCondition, []apidiscovery.APIResourceDiscovery) {
	c := registrationv1.APIServiceCondition{Type: registrationv1.Available, Status: registrationv1.ConditionFalse}
	service := r.spec.Service
	svc, err := m.cfg.Resolver.Service(service.Namespace, service.Name)
	if err != nil {
		c.Reason, c.Message = "ServiceNotFound", fmt.Sprintf("service/%s in %q is not present", service.Name, service.Namespace)
		return c, nil
	}
	name, found := portName(svc, *service.Port)
	if !found && svc.Spec.Type == corev1.ServiceTypeClusterIP {
		c.Reason, c.Message = "ServicePortError", fmt.Sprintf("service/%s in %q is not listening on port %d", service.Name, service.Namespace, *service.Port)
		return c, nil
	}
	if _, err := r.Address(); err != nil {
		c.Reason = "MissingEndpoints"
		c.Message = fmt.Sprintf("endpointslices for service/%s in %q have no addresses with port name %q", service.Name, service.Namespace, name)
		return c, nil
	}
	resources, err := fetch(ctx, r.Remote, schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version})
	if err != nil {
		c.Reason, c.Message = "FailedDiscoveryCheck", err.Error()
		return c, nil
	}
	c.Status, c.Reason, c.Message = registrationv1.ConditionTrue, "Passed", "all checks passed"
	return c, resources
}

func portName(svc *corev1.Service, port int32) (string, bool) {
	for _, p := range svc.Spec.Ports {
		if p.Port == port {
			return p.Name, true
		}
	}
	return "", false
}

// tell writes a condition where it says something new.
func (m *Manager) tell(ctx context.Context, s *registrationv1.APIService, c registrationv1.APIServiceCondition) error {
	next := s.DeepCopy()
	c.LastTransitionTime = metav1.NewTime(time.Now())
	for i, have := range next.Status.Conditions {
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status && have.Reason == c.Reason && have.Message == c.Message {
			return nil
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		next.Status.Conditions[i] = c
		return m.write(ctx, next, c)
	}
	next.Status.Conditions = append(next.Status.Conditions, c)
	return m.write(ctx, next, c)
}

func (m *Manager) write(ctx context.Context, s *registrationv1.APIService, c registrationv1.APIServiceCondition) error {
	if c.Status != registrationv1.ConditionTrue {
		m.missing.WithLabelValues(s.Name, c.Reason).Inc()
	}
	_, err := Services.UpdateStatus(ctx, m.cfg.Client, s)
	if apierrors.IsNotFound(err) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
