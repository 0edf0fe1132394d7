package client

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/api"
)

// Object is any API object.
type Object = api.Object

// Client is one user's way to the API. In a server process it reads the cache and writes through the engine,
// without HTTP or a codec; on an agent the same interface runs over HTTPS. Errors are API errors
// (k8s.io/apimachinery/pkg/api/errors tells them apart).
//
// Objects that come out are shared and read-only: DeepCopy before a change. Objects that go in stay the
// caller's; the client keeps no reference to them.
//
// A context with store.WithFence makes writes fail once their writer has lost leadership.
type Client interface {
	api.Client // Get, List (both linearizable), Create, Update, Delete

	// CreateSub posts to a subresource: pods/binding, pods/eviction, serviceaccounts/token.
	CreateSub(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, subresource string, body runtime.Object, opts metav1.CreateOptions) (runtime.Object, error)
	// Patch applies a patch of any of the four types to an object or, if subresource is not empty, to that.
	Patch(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, subresource string, pt types.PatchType, data []byte, opts metav1.PatchOptions) (Object, error)
	// DeleteCollection deletes what the list options select.
	DeleteCollection(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts metav1.DeleteOptions, list metav1.ListOptions) error
	// View opens a live set of objects. It returns at once; the view is complete when WaitFor(ctx, 0) returns.
	// On an agent it starts a watch that lasts until the context given here ends.
	View(ctx context.Context, gvr schema.GroupVersionResource, sel Selection) (View, error)
	// Kinds lists every resource that is served now, custom ones too, and calls changed (if not nil) after each change of that list
	// until ctx ends. For the garbage collector, quota and namespace deletion.
	Kinds(ctx context.Context, changed func()) []KindInfo
}

// KindInfo describes one served resource.
type KindInfo struct {
	GroupVersionResource schema.GroupVersionResource
	Kind                 string
	Namespaced           bool
	Verbs                []string
}

// Selection names the objects that a view holds: what an agent subscribes to. Its zero value is all of them.
type Selection struct {
	Namespace string
	Name      string          // one object; "" is all
	Labels    labels.Selector // nil is all
	// Field and Value select by one indexed field, as spec.nodeName.
	Field, Value string
	// Trim takes out of an object what is not needed, before a view that has objects of its own keeps it; nil leaves all.
	Trim func(Object)
}

// View is a live, read-only set of the objects of one kind. All methods may be called concurrently.
type View interface {
	// Get returns the object by its namespace ("" for cluster-scoped kinds) and name; false if it isn't there.
	Get(namespace, name string) (Object, bool)
	// List returns the objects of a namespace ("" is all) that the selector (nil is all) accepts, in key order.
	List(namespace string, selector labels.Selector) []Object
	// ByIndex returns the objects with that value of an index: store.OwnerIndex or an indexed field of the kind.
	ByIndex(index, value string) []Object
	// Items is List without decoding, for code that needs metadata alone.
	Items(namespace string, selector labels.Selector) []Item
	// Subscribe calls fn for every object that is there (Old is nil) and then, in order and one call at a time, for every change.
	// It blocks until ctx ends, and makes up by itself for a broken connection: fn then sees the differences.
	Subscribe(ctx context.Context, fn func(Change)) error
	// Revision is what the view reflects at least.
	Revision() int64
	// WaitFor blocks until the view reflects the revision, or with 0 until it's complete for the first time.
	WaitFor(ctx context.Context, revision int64) error
}

// Change is one change of an object. Old is nil for one that appeared, New for one that went away.
type Change struct {
	Old, New Item
	Revision int64
}

// Item is one version of an object, whose metadata is known without decoding it. Read-only.
type Item interface {
	Namespace() string
	Name() string
	UID() types.UID
	Labels() labels.Set
	Owners() []metav1.OwnerReference
	Deleting() bool
	Revision() int64
	// Field returns the value of a selectable field of the kind.
	Field(name string) string
	// Object decodes the object; it is shared and read-only.
	Object() Object
}
