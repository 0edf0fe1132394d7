package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/mutation"
	"k8s.io/apiserver/pkg/cel/mutation/dynamic"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/expression"
)

// Mutating is the plugin MutatingAdmissionPolicy. Make it with NewMutating.
type Mutating struct {
	Config
	policies client.TypedView[*admissionv1.MutatingAdmissionPolicy]
	bindings client.TypedView[*admissionv1.MutatingAdmissionPolicyBinding]
	compiled compiled[*mutator]
	checks   *checks
}

var _ admission.Mutator = (*Mutating)(nil)

// NewMutating returns the plugin.
func NewMutating(ctx context.Context, cfg Config) (*Mutating, error) {
	p := &Mutating{Config: cfg, checks: newChecks(cfg.Metrics, "mutating_admission_policy",
		"Mutation admission policy check total, labeled by policy and further identified by binding.",
		"Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
		"error_type", "policy", "policy_binding")}
	gv, served := admissionv1.SchemeGroupVersion, cfg.Client.Kinds(ctx, nil)
	var err error
	if p.policies, err = client.ViewIfServed(ctx, cfg.Client, served, client.Kind[*admissionv1.MutatingAdmissionPolicy]{GVR: gv.WithResource("mutatingadmissionpolicies")}); err != nil {
		return nil, err
	}
	p.bindings, err = client.ViewIfServed(ctx, cfg.Client, served, client.Kind[*admissionv1.MutatingAdmissionPolicyBinding]{GVR: gv.WithResource("mutatingadmissionpolicybindings")})
	return p, err
}

// Name implements admission.Plugin.
func (*Mutating) Name() string { return "MutatingAdmissionPolicy" }

// Handles implements admission.Selective.
func (*Mutating) Handles(op admission.Operation) bool {
	return op != admission.Delete
}

// rounds is what the plugin remembers of a request's first round.
type rounds struct {
	called, again map[string]bool // policies with their bindings, as in webhooks
	output        runtime.Object
}

func (m *rounds) changed() {
	for key := range m.called {
		m.again[key] = true
	}
	clear(m.called)
}

// Admit implements admission.Mutator.
func (p *Mutating) Admit(ctx context.Context, r *admission.Request) error {
	if match.Exempt(r) || r.Forms == nil || r.Object == nil {
		return nil
	}
	bindings := p.bindings.List("", nil)
	if len(bindings) == 0 {
		return nil
	}
	memory, ok := r.Memory[p].(*rounds)
	if !ok {
		memory = &rounds{called: map[string]bool{}, again: map[string]bool{}}
		if r.Memory == nil {
			r.Memory = map[any]any{}
		}
		r.Memory[p] = memory
	}
	if r.Round > 0 && !equality.Semantic.DeepEqual(memory.output, r.Object) {
		memory.changed()
	}
	for _, policy := range p.policies.List("", nil) {
		for _, b := range bindings {
			if b.Spec.PolicyName != policy.Name {
				continue
			}
			if err := p.apply(ctx, r, policy, b, memory); err != nil {
				return err
			}
		}
	}
	memory.output = r.Object.DeepCopyObject()
	return nil
}

// apply runs one policy by one binding.
func (p *Mutating) apply(ctx context.Context, r *admission.Request, policy *admissionv1.MutatingAdmissionPolicy, b *admissionv1.MutatingAdmissionPolicyBinding, memory *rounds) error {
	key := policy.Name + "/" + b.Name
	if r.Round > 0 && !memory.again[key] {
		return nil
	}
	before := r.Object.DeepCopyObject()
	called, err := p.mutate(ctx, r, policy, b)
	if err != nil {
		if policy.Spec.FailurePolicy != nil && *policy.Spec.FailurePolicy == admissionv1.Ignore {
			return overwrite(r.Object, before)
		}
		return failure(r, fmt.Sprintf("policy '%s' with binding '%s' denied request: %v", policy.Name, b.Name, err))
	}
	if called && !equality.Semantic.DeepEqual(before, r.Object) {
		memory.changed()
		r.Again = true
	}
	if called && policy.Spec.ReinvocationPolicy == admissionv1.IfNeededReinvocationPolicy {
		memory.called[key] = true
	}
	return nil
}

func (p *Mutating) mutate(ctx context.Context, r *admission.Request, policy *admissionv1.MutatingAdmissionPolicy, b *admissionv1.MutatingAdmissionPolicyBinding) (called bool, err error) {
	forms := r.Forms()
	form, err := p.Matcher.Match(ctx, r, forms, criteria(policy.Spec.MatchConstraints))
	if err != nil || form == nil {
		return false, err
	}
	ok, err := p.bound(ctx, r, forms, b.Spec.MatchResources)
	if err != nil || !ok {
		return false, err
	}
	params, err := p.params(ctx, policy.Spec.ParamKind, b.Spec.ParamRef, namespaceOf(r))
	if errors.As(err, &errNoKind{}) {
		return false, fmt.Errorf("failed to configure policy: %w", err)
	}
	if err != nil {
		return false, fmt.Errorf("failed to configure binding: %w", err)
	}
	m := p.compiled.of(policy, func() *mutator { return newMutator(policy) })
	if m.err != nil {
		return false, m.err
	}
	for _, param := range params {
		in, err := p.Matcher.Input(ctx, r, form, forms, p.Authorizer)
		if err != nil {
			return called, err
		}
		in.Params = param
		met, err := p.Matcher.Met(ctx, m.conditions, in, match.Of{Name: policy.Name, Kind: "policy", Step: "validate", Operation: r.Operation})
		if err != nil {
			return called, err
		}
		if !met {
			continue
		}
		called = true
		for i := range m.steps {
			began := time.Now()
			err := p.step(ctx, r, form, forms, &m.steps[i], param)
			kind := errorType("")
			if err != nil {
				kind = errorType(err.Error())
			}
			p.checks.observe(time.Since(began), kind, policy.Name, b.Name)
			if err != nil {
				return called, err
			}
		}
	}
	return called, nil
}

// step runs one mutation, on what the former ones left.
func (p *Mutating) step(ctx context.Context, r *admission.Request, form *admission.Form, forms []admission.Form, s *step, param map[string]any) error {
	in, err := p.Matcher.Input(ctx, r, form, forms, p.Authorizer)
	if err != nil {
		return err
	}
	in.Params = param
	budget := expression.Budget(celconfig.RuntimeCELCostBudget)
	value, err := s.e.Eval(ctx, in, &budget)
	if err != nil {
		return fmt.Errorf("expression '%v' resulted in error: %w", s.text, err)
	}
	before := &unstructured.Unstructured{Object: in.Object}
	var after []byte
	if s.json {
		after, err = patchJSON(before, value)
	} else {
		after, err = p.merge(before, value, form)
	}
	if err != nil || after == nil {
		return err
	}
	out, err := form.Back(after)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	return overwrite(r.Object, out)
}

func (p *Mutating) merge(before *unstructured.Unstructured, value ref.Val, form *admission.Form) ([]byte, error) {
	object, ok := value.(*dynamic.ObjectVal)
	if !ok {
		return nil, fmt.Errorf("unsupported return type from ApplyConfiguration expression: %v", value.Type())
	}
	if err := object.CheckTypeNamesMatchFieldPathNames(); err != nil {
		return nil, fmt.Errorf("type mismatch: %w", err)
	}
	fields, ok := object.Value().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("invalid return type: %T", value)
	}
	patch := &unstructured.Unstructured{Object: fields}
	patch.SetGroupVersionKind(form.Kind)
	out, err := p.Merge(before, patch)
	if err != nil {
		return nil, fmt.Errorf("error applying patch: %w", err)
	}
	return json.Marshal(out.Object)
}

// patchJSON applies the operations of a JSON patch. A failed test leaves the object as it is.
func patchJSON(before *unstructured.Unstructured, value ref.Val) ([]byte, error) {
	list, ok := value.(traits.Lister)
	if !ok {
		return nil, errors.New("type mismatch: JSONPatchType.expression should evaluate to array")
	}
	patch := jsonpatch.Patch{}
	for it := list.Iterator(); it.HasNext() == types.True; {
		op, err := operation(it.Next())
		if err != nil {
			return nil, err
		}
		patch = append(patch, op)
	}
	raw, err := json.Marshal(before.Object)
	if err != nil {
		return nil, fmt.Errorf("failed to create JSON patch: %w", err)
	}
	after, err := patch.Apply(raw)
	if errors.Is(err, jsonpatch.ErrTestFailed) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("JSON Patch: %w", err)
	}
	return after, nil
}

func operation(v ref.Val) (jsonpatch.Operation, error) {
	native, err := v.ConvertToNative(reflect.TypeOf(&mutation.JSONPatchVal{}))
	if err != nil {
		return nil, fmt.Errorf("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch: %w", err)
	}
	op, ok := native.(*mutation.JSONPatchVal)
	if !ok {
		return nil, fmt.Errorf("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of %T", native)
	}
	out := jsonpatch.Operation{}
	set := func(name string, value any) error {
		raw, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("JSONPath valueExpression evaluated to a type that could not marshal to JSON: %w", err)
		}
		message := json.RawMessage(raw)
		out[name] = &message
		return nil
	}
	if err := errors.Join(set("op", op.Op), set("path", op.Path)); err != nil {
		return nil, err
	}
	if op.From != "" {
		if err := set("from", op.From); err != nil {
			return nil, err
		}
	}
	if op.Val == nil {
		return out, nil
	}
	if object, ok := op.Val.(*dynamic.ObjectVal); ok {
		if err := object.CheckTypeNamesMatchFieldPathNames(); err != nil {
			return nil, fmt.Errorf("type mismatch: %w", err)
		}
	}
	plain, err := op.Val.ConvertToNative(reflect.TypeOf(&structpb.Value{}))
	if err != nil {
		return nil, fmt.Errorf("JSONPath valueExpression evaluated to a type that could not marshal to JSON: %w", err)
	}
	return out, set("value", plain)
}

// A mutator is a compiled policy.
type mutator struct {
	err        error
	conditions *match.Conditions
	steps      []step
}

type step struct {
	text string
	e    *expression.Expression
	json bool
}

func newMutator(p *admissionv1.MutatingAdmissionPolicy) *mutator {
	m := &mutator{conditions: match.Compile(p.Spec.MatchConditions, p.Spec.ParamKind != nil)}
	set, err := newSet(expression.Has{Params: p.Spec.ParamKind != nil, Authorizer: true, Patches: true}, p.Spec.Variables)
	if err != nil {
		m.err = err
		return m
	}
	for _, spec := range p.Spec.Mutations {
		s := step{json: spec.PatchType == admissionv1.PatchTypeJSONPatch}
		result := expression.ObjectPatch
		if s.json && spec.JSONPatch != nil {
			s.text, result = spec.JSONPatch.Expression, expression.JSONPatchList
		} else if spec.ApplyConfiguration != nil {
			s.text = spec.ApplyConfiguration.Expression
		}
		if s.e, m.err = set.Compile(s.text, result); m.err != nil {
			return m
		}
		m.steps = append(m.steps, s)
	}
	return m
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
