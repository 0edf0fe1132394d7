package apiserver

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/audit"
	"clipper.dev/clipper/internal/store"
)

// Config says what to serve and how it is bounded. Store and Rows are required.
type Config struct {
	Store  *store.Store
	Rows   []*api.Resource // api.Registered()
	Logger *slog.Logger
	// Metrics is where the server's metrics are registered, and what /metrics shows; nil makes a registry of its own.
	Metrics *prometheus.Registry
	// Version is what /version tells; zero is v1.36.3 of this platform.
	Version apiversion.Info
	// Flags are those that the process runs with, as /flagz shows them: none may be a secret.
	Flags map[string]string
	// Transformer returns what encrypts a resource's values at rest; nil, also as an answer, is nothing.
	Transformer func(schema.GroupResource) store.Transformer
	// Kubelets reaches the nodes' kubelets for log, exec, attach, portforward and proxy. Nil answers these with an error.
	Kubelets Kubelets
	// Proxy dials pods and services for their proxy subresources; nil is a net.Dialer.
	Proxy func(ctx context.Context, network, address string) (net.Conn, error)
	// Tracker keeps managedFields; nil tracks nothing and refuses server-side apply.
	Tracker FieldTracker
	// Auditor records requests; nil records none.
	Auditor *audit.Auditor
	// Address is this server's own, as clients outside reach it; discovery shows it.
	Address string

	// MaxInFlight and MaxMutatingInFlight are, in sum, the seats that requests share by priority. Defaults 400 and 200.
	MaxInFlight, MaxMutatingInFlight int
	// MaxBodyBytes bounds a request's body. Default 3 MiB.
	MaxBodyBytes int64
	// RequestTimeout bounds a request that is not a watch or a stream. Default one minute.
	RequestTimeout time.Duration
	// MinWatch is how long a watch without a timeout of its own lasts at least; it ends at a random moment before twice that. Default 30 minutes.
	MinWatch time.Duration
	// EventTTL is how long events are kept; zero is what their rows say.
	EventTTL time.Duration
	// NoProfiles leaves out /debug/pprof/.
	NoProfiles bool

	Security
}

// Security decides who may do what. Its parts usually need a Client of the server themselves, so they may be
// given to Install after New. Until then nobody is let in over HTTP.
type Security struct {
	Authenticator authenticator.Request
	// Impersonate returns whom a request acts for that is asked for by its attributes' user: the one named in its Impersonate- headers, if that user
	// may, and by which constrained leave; nil if the headers name nobody.
	Impersonate func(ctx context.Context, r *http.Request, a authorizer.Attributes) (as user.Info, constraint string, err error)
	Authorizer  authorizer.Authorizer
	// Admission are the plugins, in order.
	Admission []admission.Plugin
	// RulesFor, CheckToken and IssueToken stand behind api.Env.
	RulesFor   func(ctx context.Context, u api.UserInfo, namespace string) (any, error)
	CheckToken func(ctx context.Context, token string, audiences []string) (u api.UserInfo, aud []string, ok bool, err error)
	IssueToken func(ctx context.Context, req api.TokenRequest) (token string, expires time.Time, err error)
}

// Kubelets reaches the kubelets' HTTPS servers as the API server: with its client certificate, checking theirs.
type Kubelets interface {
	// Endpoint returns the base URL of a node's kubelet ("https://10.0.0.7:10250") and a transport that reaches it; an insecure one believes any certificate.
	Endpoint(ctx context.Context, node string, insecure bool) (base string, rt http.RoundTripper, err error)
	// Dial opens a connection to a node's kubelet, TLS included, for requests that upgrade.
	Dial(ctx context.Context, node string) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Version.GitVersion == "" {
		c.Version = defaultVersion()
	}
	if c.Proxy == nil {
		c.Proxy = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 400
	}
	if c.MaxMutatingInFlight == 0 {
		c.MaxMutatingInFlight = 200
	}
	if c.MaxBodyBytes == 0 {
		c.MaxBodyBytes = 3 << 20
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = time.Minute
	}
	if c.MinWatch == 0 {
		c.MinWatch = 30 * time.Minute
	}
	return c
}
