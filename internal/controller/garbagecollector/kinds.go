package garbagecollector

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/store"
)

// kind is one resource that is watched.
type kind struct {
	info   client.KindInfo
	view   client.View
	cancel context.CancelFunc
}

// kinds are all resources that are served, and how to find objects in them.
type kinds struct {
	client client.Client
	log    *slog.Logger
	// failures counts kinds that could not be watched.
	failures prometheus.Counter

	mu     sync.RWMutex
	byGR   map[schema.GroupResource]*kind
	byKind map[schema.GroupKind]*kind
}

func newFailures() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Subsystem: "garbagecollector_controller", Name: "resources_sync_error_total",
		Help: "Number of garbage collector resources sync errors"})
}

// ignored kinds own nothing and are owned by nothing, and there are many of them.
var ignored = map[schema.GroupResource]bool{
	{Resource: "events"}:                         true,
	{Group: "events.k8s.io", Resource: "events"}: true,
}

func wanted(info client.KindInfo) bool {
	return !ignored[info.GroupVersionResource.GroupResource()] &&
		slices.Contains(info.Verbs, "list") && slices.Contains(info.Verbs, "watch") && slices.Contains(info.Verbs, "delete")
}

// refresh opens views of the kinds that are new, closes those of kinds that are no longer served, and returns the new ones.
func (k *kinds) refresh(ctx context.Context, served []client.KindInfo) []*kind {
	k.mu.Lock()
	defer k.mu.Unlock()
	var added []*kind
	there := map[schema.GroupResource]bool{}
	for _, info := range served {
		gr := info.GroupVersionResource.GroupResource()
		if !wanted(info) || there[gr] {
			continue
		}
		there[gr] = true
		if old := k.byGR[gr]; old != nil {
			if old.info.GroupVersionResource == info.GroupVersionResource {
				continue
			}
			k.drop(gr)
		}
		kctx, cancel := context.WithCancel(ctx)
		view, err := k.client.View(kctx, info.GroupVersionResource, client.Selection{})
		if err != nil {
			cancel()
			k.failures.Inc()
			k.log.Warn("can't watch a kind for garbage", "kind", info.GroupVersionResource.String(), "err", err)
			continue
		}
		one := &kind{info: info, view: view, cancel: cancel}
		k.byGR[gr] = one
		k.byKind[schema.GroupKind{Group: gr.Group, Kind: info.Kind}] = one
		added = append(added, one)
	}
	for gr := range k.byGR {
		if !there[gr] {
			k.drop(gr)
		}
	}
	return added
}

// drop closes a kind. Called with mu held.
func (k *kinds) drop(gr schema.GroupResource) {
	old := k.byGR[gr]
	old.cancel()
	delete(k.byGR, gr)
	delete(k.byKind, schema.GroupKind{Group: gr.Group, Kind: old.info.Kind})
}

func (k *kinds) all() []*kind {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make([]*kind, 0, len(k.byGR))
	for _, one := range k.byGR {
		out = append(out, one)
	}
	return out
}

// key names an object.
func (k *kind) key(namespace, name string) controller.Key {
	return controller.Key{Namespace: namespace, Name: k.info.GroupVersionResource.GroupResource().String() + "/" + name}
}

// resolve finds the kind that a key means, and the object's name.
func (k *kinds) resolve(key controller.Key) (*kind, string) {
	resource, name, _ := strings.Cut(key.Name, "/")
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.byGR[schema.ParseGroupResource(resource)], name
}

// owner finds the kind that an owner reference means, and the namespace that the owner would be in; nil if it isn't served. ok is
// false for an owner in a namespace of something that is in none.
func (k *kinds) owner(ref metav1.OwnerReference, namespace string) (one *kind, in string, ok bool) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, "", true
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	one = k.byKind[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}]
	switch {
	case one == nil:
		return nil, "", true
	case !one.info.Namespaced:
		return one, "", true
	}
	return one, namespace, namespace != ""
}

// dependent is an object that names an owner.
type dependent struct {
	kind   *kind
	object client.Object
}

// dependents returns the objects that name an owner.
func (k *kinds) dependents(owner string) []dependent {
	var out []dependent
	for _, one := range k.all() {
		for _, o := range one.view.ByIndex(store.OwnerIndex, owner) {
			out = append(out, dependent{one, o})
		}
	}
	return out
}
