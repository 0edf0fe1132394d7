package plugins

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	podsecurity "k8s.io/pod-security-admission/admission"
	"k8s.io/pod-security-admission/admission/api/load"
	podsecurityapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/client"
)

// PodSecurity enforces, audits and warns of the Pod Security Standards, by the labels of a pod's namespace.
type PodSecurity struct {
	judge podsecurity.Admission
}

var _ admission.Validator = (*PodSecurity)(nil)

// newPodSecurity makes the plugin with a PodSecurityConfiguration. None is upstream's default: privileged everywhere, until a namespace says otherwise.
func newPodSecurity(c client.Client, v *views, configuration []byte, r prometheus.Registerer) (*PodSecurity, error) {
	config, err := load.LoadFromData(configuration)
	if err != nil {
		return nil, fmt.Errorf("configure PodSecurity: %w", err)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("make the checks of PodSecurity: %w", err)
	}
	recorder, err := newPodSecurityMetrics(r)
	if err != nil {
		return nil, err
	}
	p := &PodSecurity{judge: podsecurity.Admission{
		Configuration:    config,
		Evaluator:        evaluator,
		Metrics:          recorder,
		PodSpecExtractor: podsecurity.DefaultPodSpecExtractor{},
		NamespaceGetter:  namespaceGetter{c, v},
		PodLister:        podLister{v},
	}}
	if err := p.judge.CompleteConfiguration(); err != nil {
		return nil, fmt.Errorf("PodSecurity configuration error: %w", err)
	}
	if err := p.judge.ValidateConfiguration(); err != nil {
		return nil, fmt.Errorf("PodSecurity invalid: %w", err)
	}
	return p, nil
}

// Name implements admission.Plugin.
func (*PodSecurity) Name() string { return "PodSecurity" }

// Handles implements admission.Selective.
func (*PodSecurity) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate implements admission.Validator.
func (p *PodSecurity) Validate(ctx context.Context, r *admission.Request) error {
	gr := groupResource(r)
	if r.Operation != admission.Create && r.Operation != admission.Update || gr != corev1.Resource("namespaces") && !p.judge.PodSpecExtractor.HasPodSpec(gr) {
		return nil
	}
	result := p.judge.Validate(ctx, securityRequest{r})
	for _, w := range result.Warnings {
		r.Warn(w)
	}
	for k, v := range result.AuditAnnotations {
		r.Annotate(podsecurityapi.AuditAnnotationPrefix+k, v)
	}
	if result.Allowed {
		return nil
	}
	refusal := apierrors.NewForbidden(gr, nameOf(r), errors.New("Not allowed by PodSecurity"))
	if res := result.Result; res != nil {
		if res.Message != "" {
			refusal.ErrStatus.Message = res.Message
		}
		if res.Reason != "" {
			refusal.ErrStatus.Reason = res.Reason
		}
		if res.Details != nil {
			refusal.ErrStatus.Details = res.Details
		}
		if res.Code != 0 {
			refusal.ErrStatus.Code = res.Code
		}
	}
	if refusal.ErrStatus.Code == 0 {
		refusal.ErrStatus.Code = http.StatusForbidden
	}
	return refusal
}

// securityRequest is a request as the library wants it.
type securityRequest struct{ *admission.Request }

var _ podsecurityapi.Attributes = securityRequest{}

func (r securityRequest) GetName() string                          { return r.Name }
func (r securityRequest) GetNamespace() string                     { return r.Namespace }
func (r securityRequest) GetResource() schema.GroupVersionResource { return r.Resource }
func (r securityRequest) GetKind() schema.GroupVersionKind         { return r.Kind }
func (r securityRequest) GetSubresource() string                   { return r.Subresource }
func (r securityRequest) GetOperation() admissionv1.Operation {
	return admissionv1.Operation(r.Operation)
}
func (r securityRequest) GetObject() (runtime.Object, error)    { return r.Object, nil }
func (r securityRequest) GetOldObject() (runtime.Object, error) { return r.OldObject, nil }
func (r securityRequest) GetUserName() string                   { return r.User.Name }

type namespaceGetter struct {
	client client.Client
	views  *views
}

func (g namespaceGetter) GetNamespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	if ns, ok := g.views.namespaces.Get("", name); ok {
		return ns, nil
	}
	return client.Namespaces.Get(ctx, g.client, "", name)
}

type podLister struct{ views *views }

func (l podLister) ListPods(_ context.Context, namespace string) ([]*corev1.Pod, error) {
	return l.views.pods.List(namespace, nil), nil
}
