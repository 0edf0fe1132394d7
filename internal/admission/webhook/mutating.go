package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	reviewv1 "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/client"
)

// Mutating is the plugin MutatingAdmissionWebhook. Make it with New.
type Mutating struct {
	*common
	view client.TypedView[*admissionv1.MutatingWebhookConfiguration]
}

var _ admission.Mutator = (*Mutating)(nil)

// Name implements admission.Plugin.
func (*Mutating) Name() string { return "MutatingAdmissionWebhook" }

// rounds is what the plugin remembers of a request's first round.
type rounds struct {
	called map[string]bool // webhooks that want to be called again when something changes after them
	again  map[string]bool // those of them after which something has changed
	output runtime.Object  // as the plugin left the object
}

// Admit implements admission.Mutator.
func (p *Mutating) Admit(ctx context.Context, r *admission.Request) error {
	if match.Exempt(r) || r.Forms == nil {
		return nil
	}
	hooks := hooksOf(p.common, p.view, ofMutating)
	if len(hooks) == 0 {
		return nil
	}
	memory := p.memory(r)
	if r.Round > 0 && !equality.Semantic.DeepEqual(memory.output, r.Object) {
		memory.changed()
	}
	forms := r.Forms()
	for i, h := range hooks {
		form, err := p.wants(ctx, r, forms, h)
		if err != nil {
			return err
		}
		if form == nil || r.Round > 0 && !memory.again[h.key] {
			continue
		}
		changed, err := p.ask(ctx, r, form, &forms[0], h, i)
		if err != nil {
			return err
		}
		if changed {
			memory.changed()
			r.Again = true
		}
		if h.reinvoke {
			memory.called[h.key] = true
		}
	}
	if r.Object != nil {
		memory.output = r.Object.DeepCopyObject()
	}
	return nil
}

func (p *Mutating) memory(r *admission.Request) *rounds {
	if m, ok := r.Memory[p].(*rounds); ok {
		return m
	}
	m := &rounds{called: map[string]bool{}, again: map[string]bool{}}
	if r.Memory == nil {
		r.Memory = map[any]any{}
	}
	r.Memory[p] = m
	return m
}

// changed notes that the webhooks called so far haven't seen the object as it is now.
func (m *rounds) changed() {
	for key := range m.called {
		m.again[key] = true
	}
	clear(m.called)
}

// ask calls a webhook and applies its patch.
func (p *Mutating) ask(ctx context.Context, r *admission.Request, form, asked *admission.Form, h *registered, index int) (changed bool, err error) {
	began := time.Now()
	answer, err := p.review(ctx, r, form, asked, h, true)
	r.MutatingWebhooks += time.Since(began)
	if err == nil {
		changed, err = p.patch(r, form, h, index, answer)
	}
	note(r, h, index, changed)
	p.metrics.asked(h, stepAdmit, r.Operation, time.Since(began), err)
	settled := p.settle(r, h, err, fmt.Sprintf("failed-open.mutation.webhook.admission.k8s.io/round_%d_index_%d", r.Round, index))
	if err != nil && settled == nil && ctx.Err() != nil {
		settled = apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	return changed, settled
}

// note records in the audit log whether a webhook changed anything.
func note(r *admission.Request, h *registered, index int, changed bool) {
	text, err := json.Marshal(struct {
		Configuration string `json:"configuration"`
		Webhook       string `json:"webhook"`
		Mutated       bool   `json:"mutated"`
	}{h.configuration, h.name, changed})
	if err == nil {
		r.Annotate(fmt.Sprintf("mutation.webhook.admission.k8s.io/round_%d_index_%d", r.Round, index), string(text))
	}
}

// notePatch records in the audit log what a webhook changed, if the policy wants bodies.
func notePatch(r *admission.Request, h *registered, index int, patch jsonpatch.Patch) {
	text, err := json.Marshal(struct {
		Configuration string          `json:"configuration"`
		Webhook       string          `json:"webhook"`
		Patch         jsonpatch.Patch `json:"patch,omitempty"`
		PatchType     string          `json:"patchType,omitempty"`
	}{h.configuration, h.name, patch, string(reviewv1.PatchTypeJSONPatch)})
	if err == nil {
		r.Annotate(fmt.Sprintf("patch.webhook.admission.k8s.io/round_%d_index_%d", r.Round, index), string(text))
	}
}

func (p *Mutating) patch(r *admission.Request, form *admission.Form, h *registered, index int, answer *reviewv1.AdmissionResponse) (bool, error) {
	if len(answer.Patch) == 0 {
		return false, nil
	}
	patch, err := jsonpatch.DecodePatch(answer.Patch)
	if err != nil {
		return false, &errCall{h.name, fmt.Errorf("received undecodable patch in webhook response: %w", err), http.StatusServiceUnavailable}
	}
	if len(patch) == 0 {
		return false, nil
	}
	if r.Object == nil {
		return false, apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", h.name))
	}
	if t := answer.PatchType; t != nil && *t != reviewv1.PatchTypeJSONPatch {
		return false, &errCall{h.name, fmt.Errorf("unsupported patch type %q", *t), http.StatusInternalServerError}
	}
	before, err := encode(form, r.Object)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	after, err := patch.Apply(before)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	out, err := form.Back(after)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	notePatch(r, h, index, patch)
	if equality.Semantic.DeepEqual(out, r.Object) {
		return false, nil
	}
	return true, overwrite(r.Object, out)
}

// overwrite puts an object in another's place.
func overwrite(dst, src runtime.Object) error {
	d, s := reflect.ValueOf(dst), reflect.ValueOf(src)
	if d.Type() != s.Type() {
		return apierrors.NewInternalError(fmt.Errorf("a %T can't take the place of a %T", src, dst))
	}
	d.Elem().Set(s.Elem())
	return nil
}
