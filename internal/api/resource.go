package api

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is any API object: a pointer to a type of k8s.io/api.
type Object interface {
	runtime.Object
	metav1.Object
}

// A Resource is everything that the engine knows about one kind: the row of the table of kinds.
// Routing, discovery, OpenAPI, patching, server-side apply, printing and storage follow from it.
//
// All functions work on the stored version's Go type (the hub of the row), may be nil when there is
// nothing to say, and must not keep their arguments. "new" objects may be changed by the Default and
// Prepare functions; everything else is read-only.
type Resource struct {
	Group      string   // "" is the core group
	Name       string   // plural, lower case: "deployments"
	Singular   string   // "deployment"
	Kind       string   // "Deployment"
	ShortNames []string // "deploy"
	Categories []string // "all"
	Namespaced bool

	// Versions in order of preference. Each serves the same stored objects.
	Versions []Version
	// StoredAs names the group, version and kind written to etcd; its zero value is the first version.
	StoredAs schema.GroupVersionKind
	// WrittenAs is the version that is written to etcd where that isn't the hub's: one of Versions, whose FromHub and ToHub convert.
	WrittenAs string
	// Stored converts an object of any version to the one that is stored. It is for kinds whose objects are unstructured: these have no
	// hub. An object keeps the version of its request until it's written, what is read keeps the version that it was stored as, and
	// FromHub converts from any version.
	Stored func(Object) (Object, error)
	// Prefix is the table's place below /registry/, as upstream lays it: "deployments", "services/specs". Two rows that share it share the table.
	Prefix string
	// Verbs lists what is served; nil is create, delete, deletecollection, get, list, patch, update, watch.
	// Virtual resources (reviews) have only "create" and a Create function.
	Verbs []string
	// ShownVerbs are the verbs as discovery lists them, where that isn't how Verbs does.
	ShownVerbs func() []string
	// TTL tells how long an object lives after its last write; nil or 0 is for ever. (Events.)
	TTL func(Object) time.Duration

	// Default fills in absent fields as upstream's defaulting does, on create, update, patch and on reading from storage.
	Default func(Object)
	// PrepareCreate clears what a client may not set at creation (status) and sets initial values (generation 1 is the engine's, if HasGeneration).
	PrepareCreate func(Object)
	// PrepareUpdate copies from old what an update of the main resource may not change (status), and handles fields dropped or kept.
	PrepareUpdate func(new, old Object)
	// Validate checks an object to be created, after mutating admission. ObjectMeta is validated by the engine with NameRule.
	Validate func(Object) field.ErrorList
	// ValidateUpdate checks an update of the main resource; it includes what Validate checks where upstream does so, with its ratcheting.
	ValidateUpdate func(new, old Object) field.ErrorList
	// Renew brings what an old release has stored into today's form, beyond Default; it is asked when a value comes from etcd.
	Renew func(Object)
	// Restore sets in an object that has been decoded from protobuf what that encoding doesn't carry; rarely needed.
	Restore func(Object)
	// Canonicalize normalizes an accepted object just before storage (after validation); rarely needed.
	Canonicalize func(Object)
	// Warnings are returned in Warning headers on create (old is nil) and update.
	Warnings func(new, old Object) []string
	// NameRule checks metadata.name as upstream does for this kind; prefix is true for generateName. Nil is DNS-1123 subdomain.
	NameRule func(name string, prefix bool) []string
	// LooseMeta leaves metadata to the engine, which only wants names that fit into paths (events, disruption budgets).
	LooseMeta bool
	// AnyFinalizer accepts finalizers that are neither Kubernetes' own nor qualified by a domain.
	AnyFinalizer bool
	// MetaOnUpdate says how often, and in which order, the validation of updates looks at metadata beyond what it does for all kinds:
	// U as at a change, N as at a new object. Faults are reported as often. "" is "U", "-" is not at all.
	MetaOnUpdate string
	// AllowCreateOnUpdate makes a PUT to an absent name create it.
	AllowCreateOnUpdate bool
	// AllowUnconditionalUpdate accepts updates without resourceVersion (upstream's rule for most kinds).
	AllowUnconditionalUpdate bool
	// HasGeneration makes the engine keep metadata.generation: 1 at creation, one more whenever SpecChanged says so.
	HasGeneration bool
	// SpecChanged compares for generation; nil compares everything except metadata and status.
	SpecChanged func(new, old Object) bool
	// DeleteGracefully decides graceful deletion (pods): it may set deletionTimestamp's grace on the options and returns true when the object must stay until confirmed.
	DeleteGracefully func(obj Object, opts *metav1.DeleteOptions) bool
	// DefaultPropagation is used when a delete names none; "" is background (upstream: orphan for core ReplicationController).
	DefaultPropagation metav1.DeletionPropagation
	// OrphanWarning is returned by deletes that leave it to DefaultPropagation what becomes of dependents.
	OrphanWarning string
	// Uncollected objects go at once, whatever becomes of dependents (events).
	Uncollected bool
	// ReadyToDelete returns false while the object, marked for deletion, must stay although its finalizers are gone (namespaces with spec.finalizers).
	ReadyToDelete func(Object) bool
	// MarkDeleting is for kinds whose objects end in two steps (namespaces, definitions): the first delete sets deletionTimestamp, lets this
	// function change what else is to be changed, and never removes the object; finalizers for its propagation come with it only if MarkCollects.
	MarkDeleting func(Object)
	MarkCollects bool
	// ReturnsDeleted makes DELETE answer with the object that went away instead of a Status (upstream: pods, services and others).
	ReturnsDeleted bool

	// Fields are the selectable fields beyond metadata.name and metadata.namespace: the key is the field selector's name, "spec.nodeName".
	// A value of "" is indexed and matched like any other.
	Fields map[string]func(Object) string
	// UnknownField words the refusal of a selector by another field; %s or %q is its label. "" is "field label not supported: %s".
	UnknownField string
	// Indexed lists those Fields that get an index, so that a watch on a value costs its own events only.
	Indexed []string
	// FieldAliases, where a kind's selectors have other names than the table's, maps each of them to one of Fields; nil is the Fields themselves.
	FieldAliases map[string]string

	// ListKind is the kind of lists where it isn't the name of the list's Go type.
	ListKind string

	// Columns and Cells print the object for kubectl get. Cells are in the order of Columns. Nil is Name and Age.
	Columns []metav1.TableColumnDefinition
	Cells   func(Object, PrintOptions) []any
	// OwnAnnotation names an annotation that upstream makes of a field of its own type: metadata that is shown alone doesn't have it.
	OwnAnnotation string
	// Empty fills in what an object of nothing shows, as bookmarks do: upstream makes them of its own types.
	Empty func(Object)
	// RowConditions marks rows that kubectl get --watch and controllers of tables treat specially (pods that have completed); rarely needed.
	RowConditions func(Object) []metav1.TableRowCondition

	// Status describes the status subresource; nil if there is none.
	Status *Status
	// Scale describes the scale subresource; nil if there is none.
	Scale *Scale
	// Subresources beyond status and scale that are pure data operations ("approval", "finalize", "binding", "token", "eviction", "resize", …).
	// Streaming ones (log, exec, attach, portforward, proxy) are the engine's, named in Connect.
	Subresources []Subresource
	// Connect lists the streaming subresources that this kind has: "log", "exec", "attach", "portforward", "proxy".
	Connect []string
	// Create serves a virtual resource: nothing is stored; the result is returned with 201.
	Create func(ctx context.Context, env Env, obj Object) (runtime.Object, error)
	// Observe serves get and list of a virtual resource whose objects are what is found at the time of the request, in any order. It may return
	// more than is asked for; its API errors are the request's.
	Observe func(ctx context.Context, env Env, asked Observation) ([]Object, error)
	// CreateVia makes POST to a virtual resource the POST of a subresource of the stored object of the same namespace and name as the body:
	// bindings go to pods/binding. Create is nil then.
	CreateVia *SubresourceName
	// Hooks run around the storage transaction of creates, updates and deletes (address and port allocation).
	Hooks Hooks
	// ResetFields names, per version ("v1") the field paths that the main resource's managed fields never own (status), as "status" or "metadata.finalizers"; nil is "status" when Status is set.
	ResetFields []string
}

// Version is one served version.
type Version struct {
	Version string // "v1"
	// New and NewList make empty objects of this version.
	New     func() Object
	NewList func() runtime.Object
	// Group and kind are the row's.
	// ToHub and FromHub convert to and from the stored version's Go type; nil when it is the same type. They must not share memory that is written later.
	ToHub   func(Object) (Object, error)
	FromHub func(Object) (Object, error)
	// FromHubs is FromHub for many objects at once, where that costs less; nil is one by one.
	FromHubs func([]Object) ([]Object, error)
	// Deprecated is the text of the Warning header for each use; "" for none.
	Deprecated string
	// Schema is the structural OpenAPI v3 schema of the objects as JSON (an apiextensions JSONSchemaProps), for kinds without a Go
	// type: OpenAPI and field management follow from it. Nil, or an empty result, is no schema.
	Schema func() ([]byte, error)
	// Selectable are the fields that documents say objects may be selected by, those of custom resources.
	Selectable []string
	// Own, if not nil, is what the row is in this version: custom resources differ by version in validation, columns and subresources.
	// Names, scope and storage are the row's.
	Own *Resource
	// StoredOnly is a version that objects may be stored as but that isn't served.
	StoredOnly bool
	// Coerce brings an object of this version, as decoded from a request or made by a patch, into the form that its schema demands
	// (pruned and defaulted), in place. unknown are the paths of fields that it removed, if look is true.
	Coerce func(obj Object, look bool) (unknown []string, err error)
	// Default sets the defaults of an object of this version that an apply patch has made, in place; nil for kinds whose row has Default.
	Default func(Object)
}

// Ratcheted is the type of what an update's validation finds wrong and lets pass, because it was so before. The Detail is told as a warning.
const Ratcheted field.ErrorType = "Ratcheted"

// Status describes a status subresource.
type Status struct {
	// PrepareUpdate copies from old everything that a status update may not change (spec, most metadata is the engine's).
	PrepareUpdate  func(new, old Object)
	ValidateUpdate func(new, old Object) field.ErrorList
	Warnings       func(new, old Object) []string
	// ResetFields are the paths that status writes never own; nil is "spec".
	ResetFields []string
	// MetaOnUpdate is the row's MetaOnUpdate for writes of the status.
	MetaOnUpdate string
}

// Scale describes a scale subresource of autoscaling/v1.
type Scale struct {
	Get func(Object) (specReplicas, statusReplicas int32, selector string, err error)
	Set func(obj Object, specReplicas int32)
	// ReplicasPath is where the count lies, for managed fields: "spec.replicas".
	ReplicasPath string
}

// Subresource is a data operation below an object.
type Subresource struct {
	Name  string   // "binding"
	Verbs []string // "create", "get", "update", "patch"
	// GVK of the body, when it differs from the parent's: autoscaling/v1 Scale, policy/v1 Eviction.
	GVK schema.GroupVersionKind
	New func() runtime.Object
	// Check judges a posted body, with the name in the path, before validating plugins do and before anybody looks for the parent.
	Check func(name string, body runtime.Object, opts *metav1.CreateOptions) error
	// Create serves POST. The parent is nil where its absence isn't an error of the engine. The result is the response (201).
	Create func(ctx context.Context, env Env, parent Object, body runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error)
	// Apply serves POST as one guarded update of the parent, retried when the parent has changed meanwhile: it gets the stored parent and
	// the decoded body, and returns the parent as it shall be written and the response (201; nil is a Status of success). It may be called
	// several times and must not write. The UID and the resourceVersion of the body are preconditions. Create is nil then.
	Apply func(parent Object, body runtime.Object) (changed Object, response runtime.Object, err error)
	// For subresources that update a part of the parent (GET returns the parent; PUT and PATCH): as in Status.
	PrepareUpdate  func(new, old Object)
	ValidateUpdate func(new, old Object) field.ErrorList
	ResetFields    []string
	MetaOnUpdate   string
	// Body describes what is posted, if it has metadata and the answer shows it: the owners of its fields are tracked.
	Body *Resource
}

// SubresourceName names a subresource of a resource of the same group: {"pods", "binding"}.
type SubresourceName struct{ Resource, Subresource string }

// Hooks run around the storage transaction. Begin hooks may change new, return a finish function that is always called with
// whether the transaction committed, and fail the request with an API error. After runs once an object has left storage.
type Hooks struct {
	BeginCreate func(ctx context.Context, env Env, obj Object, dryRun bool) (finish func(committed bool), err error)
	BeginUpdate func(ctx context.Context, env Env, new, old Object, dryRun bool) (finish func(committed bool), err error)
	AfterDelete func(ctx context.Context, env Env, obj Object)
	// BeginStatusUpdate is BeginUpdate for writes of the status subresource.
	BeginStatusUpdate func(ctx context.Context, env Env, new, old Object, dryRun bool) (finish func(committed bool), err error)
}

// PrintOptions go with Cells.
type PrintOptions struct {
	Now time.Time
	// NoHeaders, Wide and the like do not exist here: the server always sends all columns with their priority.
}

// Env is what the engine lends to functions of a row that need more than their object. It acts with the engine's own
// authority; functions that act for a user check first. The client package's Client implements most of it; see Env's user in the engine.
type Env interface {
	// Client reads and writes as the engine itself.
	Client() Client
	// User returns the request's user name, UID, groups and extra.
	User(ctx context.Context) UserInfo
	// Authorize asks whether a user may do something; reason is for people.
	Authorize(ctx context.Context, attrs AccessAttributes) (allowed, denied bool, reason string, err error)
	// Verb returns that of the request.
	Verb(ctx context.Context) string
	// Permit returns nil if a user may do something to a resource, else the API's Forbidden.
	Permit(ctx context.Context, attrs AccessAttributes) error
	// RulesFor lists what a user may do in a namespace, for SelfSubjectRulesReview.
	RulesFor(ctx context.Context, user UserInfo, namespace string) (any, error)
	// Authenticate checks a token for TokenReview.
	Authenticate(ctx context.Context, token string, audiences []string) (user UserInfo, aud []string, ok bool, err error)
	// IssueToken signs a bound service account token.
	IssueToken(ctx context.Context, req TokenRequest) (token string, expires time.Time, err error)
	// Components asks the parts of the control plane how they are.
	Components(ctx context.Context) []ComponentHealth
	// Usage asks nodes' kubelets what is used there; those that don't tell are missing in the answer.
	Usage(ctx context.Context, nodes []string) map[string]NodeUsage
}

// Observation is what a request wants to see of a virtual resource.
type Observation struct {
	Namespace string // "" is all
	Name      string // of the one object that a get is about; "" in a list
	Labels    labels.Selector
}

// Usage is what was used over a window of time that ended at a moment: CPU in billionths of a core on average, and the working set at its end.
type Usage struct {
	At          time.Time
	Window      time.Duration
	NanoCores   uint64
	MemoryBytes uint64
}

// NodeUsage is what a node and the containers of its pods use.
type NodeUsage struct {
	Usage
	Containers map[types.NamespacedName]map[string]Usage // by pod, by container
}

// ComponentHealth tells how a part of the control plane is: well, if Err is nil.
type ComponentHealth struct {
	Name string
	Err  error
}

// Client is the part of client.Client that rows use: reads are fresh; writes take the whole path (admission included).
// Results are shared and read-only.
type Client interface {
	Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (Object, error)
	List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, selector labels.Selector) ([]Object, error)
	Create(ctx context.Context, gvr schema.GroupVersionResource, obj Object, opts metav1.CreateOptions) (Object, error)
	// Update writes the object, or one of its subresources; a resourceVersion in it is a precondition.
	Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj Object, opts metav1.UpdateOptions) (Object, error)
	Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error
}

// UserInfo is an authenticated identity.
type UserInfo struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// AccessAttributes describe a request for authorization.
type AccessAttributes struct {
	User                                                         UserInfo
	Verb, Group, Version, Resource, Subresource, Namespace, Name string
	NonResourcePath                                              string // set for non-resource requests only
	FieldSelector, LabelSelector                                 string
}

// TokenRequest describes a token to sign.
type TokenRequest struct {
	Namespace, ServiceAccount string
	ServiceAccountUID         string
	Audiences                 []string
	Expiry                    time.Duration
	// Bound names the object that the token dies with: Kind is Pod, Secret or Node; empty for none.
	BoundKind, BoundName, BoundUID string
	// NodeName and NodeUID are recorded for pods that have a node.
	NodeName, NodeUID string
	// WarnAfter, when set, marks a token whose extended life is beyond what was asked for.
	WarnAfter time.Duration
}

var registered []*Resource

// Register adds a row to the table of kinds and returns it. It is called from package variables only:
//
//	var ConfigMaps = api.Register(&api.Resource{Name: "configmaps", …})
func Register(r *Resource) *Resource {
	registered = append(registered, r)
	return r
}

// Registered returns all rows. The caller may not change them.
func Registered() []*Resource { return registered }
