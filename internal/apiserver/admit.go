package apiserver

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/admission"
)

// target is what a write acts on: an object, one of its subresources, or (without a name) the collection.
type target struct {
	v         *version
	sub       string
	namespace string
	name      string
}

func (t target) key() string { return t.v.key(t.namespace, t.name) }

// admission makes the request that plugins judge.
func (t target) admission(ctx context.Context, op admission.Operation, obj, old, options runtime.Object, dryRun bool) *admission.Request {
	namespace := t.namespace
	if t.v.gvr.Group == "" && t.v.gvr.Resource == "namespaces" {
		namespace = t.name // as upstream: a namespace lies in itself
	}
	return &admission.Request{
		Forms:     func() []admission.Form { return t.forms(obj, old) },
		Operation: op, Resource: t.v.gvr, Kind: t.v.gvk, Subresource: t.sub, Namespace: namespace, Name: t.name,
		User: callOf(ctx).user, Object: obj, OldObject: old, Options: options, DryRun: dryRun,
	}
}

// mutate runs the mutating plugins.
func (s *Server) mutate(ctx context.Context, r *admission.Request) (err error) {
	defer collect(ctx, r)
	began := monotonic()
	at := began
	defer func() { s.metrics.admission.admit.observe(r.Operation, at-began, err != nil) }()
	op := operationIndex(r.Operation)
	mutators := s.security.Load().mutators
	for {
		for i := range mutators {
			p := &mutators[i]
			if !p.handles[op] {
				continue
			}
			err := p.plugin.Admit(ctx, r)
			if at = p.observe(r.Operation, at, err); err != nil {
				return err
			}
		}
		if !r.Again || r.Round > 0 {
			return nil
		}
		r.Round, r.Again = r.Round+1, false
	}
}

// validate runs the validating plugins. finish must be called with whether the write was committed; it tells the plugins that passed it.
func (s *Server) validate(ctx context.Context, r *admission.Request) (finish func(committed bool), err error) {
	defer collect(ctx, r)
	began := monotonic()
	at := began
	defer func() { s.metrics.admission.validate.observe(r.Operation, at-began, err != nil) }()
	var passed []admission.Finisher
	finish = func(committed bool) {
		for _, p := range slices.Backward(passed) {
			p.Finish(ctx, r, committed)
		}
	}
	op := operationIndex(r.Operation)
	validators := s.security.Load().validators
	for i := range validators {
		p := &validators[i]
		if !p.handles[op] {
			continue
		}
		err := p.plugin.Validate(ctx, r)
		if at = p.observe(r.Operation, at, err); err != nil {
			finish(false)
			return nil, err
		}
		if f, ok := p.plugin.(admission.Finisher); ok {
			passed = append(passed, f)
		}
	}
	return finish, nil
}

// collect moves what plugins had to say to the call.
func collect(ctx context.Context, r *admission.Request) {
	c := callOf(ctx)
	c.warn(r.Warnings...)
	c.annotate(r.Annotations)
	c.spent.add(inMutatingWebhooks, r.MutatingWebhooks)
	c.spent.add(inValidatingWebhooks, r.ValidatingWebhooks)
	r.Warnings, r.Annotations, r.MutatingWebhooks, r.ValidatingWebhooks = nil, nil, 0, 0
}
