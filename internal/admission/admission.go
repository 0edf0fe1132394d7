package admission

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
)

// Operation is what a request does.
type Operation string

// The operations, spelled as in AdmissionReview.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Request is what plugins judge. Mutating plugins may change Object in place; nothing else.
type Request struct {
	Operation   Operation
	Resource    schema.GroupVersionResource // as requested
	Kind        schema.GroupVersionKind     // of Object
	Subresource string
	Namespace   string
	Name        string // may be empty on create with generateName
	User        api.UserInfo
	Object      runtime.Object // the hub type; nil on delete; the body on subresource creates (Binding, Eviction, …)
	OldObject   runtime.Object // nil on create; read-only
	Options     runtime.Object // CreateOptions, UpdateOptions, DeleteOptions
	DryRun      bool

	// Forms lists the forms of the object: as requested first, then as the other versions, also of other groups, that the same
	// objects are served in. Nil where there is nothing but Object itself.
	Forms func() []Form
	// Round is 1 when the mutating plugins see the request again, because one of them asked for that by Again. Memory is what a
	// plugin keeps between the rounds.
	Round  int
	Again  bool
	Memory map[any]any

	Warnings    []string          // plugins append; sent as Warning headers
	Annotations map[string]string // plugins add; written to the audit log

	MutatingWebhooks, ValidatingWebhooks time.Duration // plugins add how long webhooks were waited for
}

// A Form is one version of a request's object. Its functions return objects that have their TypeMeta, and never change their argument.
type Form struct {
	Resource schema.GroupVersionResource
	Kind     schema.GroupVersionKind
	// Of converts Object or OldObject to the form.
	Of func(runtime.Object) (runtime.Object, error)
	// Back turns an object of the form, given as JSON, into one that Object can be overwritten by.
	Back func(json []byte) (runtime.Object, error)
}

// Warn adds a Warning header to the response.
func (r *Request) Warn(text string) { r.Warnings = append(r.Warnings, text) }

// Annotate adds an audit annotation.
func (r *Request) Annotate(key, value string) {
	if r.Annotations == nil {
		r.Annotations = map[string]string{}
	}
	r.Annotations[key] = value
}

// A Plugin judges requests. It implements Mutator, Validator or both; one instance serves all requests concurrently.
// Errors are API errors, returned to the client as they are (wrap others with apierrors.NewForbidden as upstream does).
type Plugin interface {
	Name() string // upstream's name: "NamespaceLifecycle"; "" for what upstream does elsewhere, which is not counted
}

// A Selective plugin judges some operations alone: requests for others don't reach it.
type Selective interface {
	Plugin
	Handles(op Operation) bool
}

// Mutator changes the object of a request.
type Mutator interface {
	Plugin
	Admit(ctx context.Context, r *Request) error
}

// Validator refuses a request or lets it pass.
type Validator interface {
	Plugin
	Validate(ctx context.Context, r *Request) error
}

// A Finisher is told how a request ended that it validated, to give back what it reserved (quota).
type Finisher interface {
	Plugin
	Finish(ctx context.Context, r *Request, committed bool)
}
