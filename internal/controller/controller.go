package controller

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
)

// Key names what is reconciled: usually an object. Namespace is empty for cluster-scoped kinds.
type Key struct {
	Namespace, Name string
}

// String returns namespace/name, or the name alone.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// A Controller is a function over the cache: what it reads, what it writes, how a change becomes a key, and
// Reconcile. The runner gives it queue, backoff, metrics, events and leadership.
type Controller struct {
	Name    string   // "deployment": names its metrics and its workers
	Inputs  []Input  // all that Reconcile reads; each is synced before the first key is handed out
	Outputs []string // resources it writes ("apps/replicasets"), for the graph that the runner prints
	Workers int      // 0 is 5
	// Reconcile makes the world as Key's desired state says: level-based, it gets a key, never an event, and looks at the world as it is.
	// A returned error retries with exponential backoff; Again asks for another call after a time.
	Reconcile func(ctx context.Context, key Key) (Again, error)
	// Start, when set, runs beside the workers until ctx ends (timers, probes). It begins once the inputs are synced.
	Start func(ctx context.Context) error
	// Source, when set, is Start for keys that come from elsewhere than an Input: add queues one.
	Source func(ctx context.Context, add func(Key)) error
}

// Again asks for the key to be reconciled again after a time; zero does not ask.
type Again struct {
	After time.Duration
}

// Input is one kind that a controller reads and how its changes map to keys.
type Input struct {
	View client.View
	// Keys maps a change to the keys that it concerns; nil changes nothing (read-only input).
	Keys func(client.Change) []Key
}

// A Constructor makes a controller. It is called anew for each term of leadership, so what a controller remembers
// is never older than that.
type Constructor struct {
	Name string // "deployment"
	// User overrides the user that it acts as, which is system:serviceaccount:kube-system:<name>-controller.
	User string
	// Everywhere makes it run on every server, not on the leader alone.
	Everywhere bool
	// Needs are resources without which it isn't started: the API of a cluster may serve less than all kinds.
	Needs []schema.GroupVersionResource
	// New opens the controller's views.
	New func(ctx context.Context, env Env) (Controller, error)
}

// Env is what a controller is made from.
type Env struct {
	Client client.Client
	Logger *slog.Logger
	// Events returns a recorder that reports as the component ("deployment-controller"). The runner runs it.
	Events func(component string) *events.Recorder
	// Registerer takes the controller's own metrics, by Register; nil is nowhere.
	Registerer prometheus.Registerer
}

// Register registers metrics in place of those of an earlier term.
func (e Env) Register(metrics ...prometheus.Collector) error {
	if e.Registerer == nil {
		return nil
	}
	for _, m := range metrics {
		e.Registerer.Unregister(m)
		if err := e.Registerer.Register(m); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
