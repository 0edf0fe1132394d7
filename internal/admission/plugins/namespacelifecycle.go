package plugins

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/client"
)

// NamespaceLifecycle keeps objects out of namespaces that don't exist or are going away, and the system's namespaces alive.
type NamespaceLifecycle struct {
	client client.Client
	views  *views

	mu      sync.Mutex
	deleted map[string]time.Time // namespaces that somebody asked to be deleted lately, and when
}

// doubted is how long after its deletion was asked for a namespace's state is asked of the API itself: the view may not show it yet.
const doubted = 30 * time.Second

// doubt begins to doubt what the view tells of a namespace.
func (p *NamespaceLifecycle) doubt(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(p.deleted, func(_ string, at time.Time) bool { return now.Sub(at) > doubted })
	if p.deleted == nil {
		p.deleted = map[string]time.Time{}
	}
	p.deleted[name] = now
}

func (p *NamespaceLifecycle) doubts(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.deleted[name]
	return ok && time.Since(at) <= doubted
}

var _ admission.Mutator = (*NamespaceLifecycle)(nil)

// Name implements admission.Plugin.
func (*NamespaceLifecycle) Name() string { return "NamespaceLifecycle" }

// Handles implements admission.Selective.
func (*NamespaceLifecycle) Handles(op admission.Operation) bool {
	return op != admission.Connect
}

// immortal namespaces may not be deleted.
var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

// Admit implements admission.Mutator.
func (p *NamespaceLifecycle) Admit(ctx context.Context, r *admission.Request) error {
	isNamespace := r.Resource.Group == "" && r.Resource.Resource == "namespaces"
	if isNamespace && r.Operation == admission.Delete && slices.Contains(immortal, r.Name) {
		return apierrors.NewForbidden(groupResource(r), r.Name, errors.New("this namespace may not be deleted"))
	}
	if isNamespace && r.Operation == admission.Delete {
		p.doubt(r.Name)
	}
	// Answering a review by the namespace's existence would tell who asks whether it exists.
	if isNamespace || r.Namespace == "" || r.Operation == admission.Delete || r.Operation == admission.Connect ||
		concerns(r, "authorization.k8s.io", "localsubjectaccessreviews", "") {
		return nil
	}
	ns, ok := p.views.namespaces.Get("", r.Namespace)
	if !ok || r.Operation == admission.Create && p.doubts(r.Namespace) {
		var err error
		if ns, err = client.Namespaces.Get(ctx, p.client, "", r.Namespace); err != nil {
			return err
		}
	}
	if r.Operation != admission.Create || ns.Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	err := apierrors.NewForbidden(groupResource(r), nameOf(r), fmt.Errorf("unable to create new content in namespace %s because it is being terminated", r.Namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", r.Namespace),
		Field:   "metadata.namespace",
	})
	return err
}
