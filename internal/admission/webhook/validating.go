package webhook

import (
	"context"
	"errors"
	"sync"
	"time"

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

// Config says what the plugins work with. All fields are required.
type Config struct {
	Client     client.Client // the engine's own
	Matcher    *match.Matcher
	Authorizer authorizer.Authorizer
	Hooks      *hook.Caller
}

// New returns both plugins.
func New(ctx context.Context, cfg Config) (*Mutating, *Validating, error) {
	call := func(ctx context.Context, h *registered, in, out any) error {
		return cfg.Hooks.Call(ctx, h.target, time.Duration(h.timeout)*time.Second, in, out)
	}
	m := &Mutating{common: &common{matcher: cfg.Matcher, authorizer: cfg.Authorizer, call: call}}
	v := &Validating{common: &common{matcher: cfg.Matcher, authorizer: cfg.Authorizer, call: call}}
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
	var wg sync.WaitGroup
	for _, q := range questions {
		wg.Go(func() { q.err = p.ask(ctx, &q.own, q.form, &forms[0], q.h) })
	}
	wg.Wait()
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

func (p *Validating) ask(ctx context.Context, r *admission.Request, form, asked *admission.Form, h *registered) error {
	_, err := p.review(ctx, r, form, asked, h, false)
	var failed *errCall
	if !errors.As(err, &failed) {
		return err
	}
	if !h.ignore {
		return apierrors.NewInternalError(failed)
	}
	r.Annotate("failed-open.validating.webhook.admission.k8s.io/round_0_index_0", h.name)
	return nil
}
