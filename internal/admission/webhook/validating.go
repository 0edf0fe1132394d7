package webhook

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/hook"
)

// Validating is the plugin ValidatingAdmissionWebhook. Make it with New.
type Validating struct {
	*common
	view client.TypedView[*admissionv1.ValidatingWebhookConfiguration]
}

var _ admission.Validator = (*Validating)(nil)

// Config says what the plugins work with. All fields but Metrics are required.
type Config struct {
	Client     client.Client // the engine's own
	Matcher    *match.Matcher
	Authorizer authorizer.Authorizer
	Hooks      *hook.Caller
	// Metrics takes the plugins' metrics; nil is a registry of its own.
	Metrics prometheus.Registerer
}

// New returns both plugins.
func New(ctx context.Context, cfg Config) (*Mutating, *Validating, error) {
	call := func(ctx context.Context, h *registered, in, out hook.Review) error {
		return cfg.Hooks.Call(ctx, h.target, time.Duration(h.timeout)*time.Second, in, out)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	metrics := newMetrics(cfg.Metrics)
	m := &Mutating{common: &common{matcher: cfg.Matcher, authorizer: cfg.Authorizer, call: call, metrics: metrics, step: stepAdmit}}
	v := &Validating{common: &common{matcher: cfg.Matcher, authorizer: cfg.Authorizer, call: call, metrics: metrics, step: stepValidate}}
	served := cfg.Client.Kinds(ctx, nil)
	gv := admissionv1.SchemeGroupVersion
	var err error
	m.view, err = client.ViewIfServed(ctx, cfg.Client, served, client.Kind[*admissionv1.MutatingWebhookConfiguration]{GVR: gv.WithResource("mutatingwebhookconfigurations")})
	if err != nil {
		return nil, nil, err
	}
	v.view, err = client.ViewIfServed(ctx, cfg.Client, served, client.Kind[*admissionv1.ValidatingWebhookConfiguration]{GVR: gv.WithResource("validatingwebhookconfigurations")})
	return m, v, err
}

// Name implements admission.Plugin.
func (*Validating) Name() string { return "ValidatingAdmissionWebhook" }

// Validate implements admission.Validator. The webhooks are asked at the same time.
func (p *Validating) Validate(ctx context.Context, r *admission.Request) error {
	if match.Exempt(r) || r.Forms == nil {
		return nil
	}
	hooks := hooksOf(p.common, p.view, ofValidating)
	if len(hooks) == 0 {
		return nil
	}
	forms := r.Forms()
	type question struct {
		h    *registered
		form *admission.Form
		own  admission.Request // each has warnings and annotations of its own
		err  error
	}
	var questions []*question
	for _, h := range hooks {
		form, err := p.wants(ctx, r, forms, h)
		if err != nil {
			return err
		}
		if form != nil {
			q := &question{h: h, form: form, own: *r}
			q.own.Warnings, q.own.Annotations = nil, nil
			questions = append(questions, q)
		}
	}
	if len(questions) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i, q := range questions {
		wg.Go(func() { q.err = p.ask(ctx, &q.own, q.form, &forms[0], q.h, i) })
	}
	wg.Wait()
	r.ValidatingWebhooks += time.Since(began)
	var first error
	for _, q := range questions {
		r.Warnings = append(r.Warnings, q.own.Warnings...)
		for k, v := range q.own.Annotations {
			r.Annotate(k, v)
		}
		if first == nil {
			first = q.err
		}
	}
	return first
}

func (p *Validating) ask(ctx context.Context, r *admission.Request, form, asked *admission.Form, h *registered, index int) error {
	began := time.Now()
	_, err := p.review(ctx, r, form, asked, h, false)
	p.metrics.asked(h, stepValidate, r.Operation, time.Since(began), err)
	return p.settle(r, h, err, fmt.Sprintf("failed-open.validating.webhook.admission.k8s.io/round_0_index_%d", index))
}
