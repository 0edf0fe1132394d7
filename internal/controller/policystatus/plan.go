package policystatus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/expression"
)

// maxKinds bounds the kinds that one rule's expressions are checked for.
const maxKinds = 10

// kindsOf are the kinds that a policy names without wildcards, in order.
func kindsOf(p *admissionv1.ValidatingAdmissionPolicy, served []client.KindInfo) []schema.GroupVersionKind {
	if p.Spec.MatchConstraints == nil {
		return nil
	}
	found := map[schema.GroupVersionKind]bool{}
	for _, rule := range p.Spec.MatchConstraints.ResourceRules {
		if slices.ContainsFunc(slices.Concat(rule.APIGroups, rule.APIVersions), func(s string) bool { return strings.Contains(s, "*") }) {
			continue
		}
		count := 0
		for _, k := range served {
			gvr := k.GroupVersionResource
			named := slices.Contains(rule.APIGroups, gvr.Group) && slices.Contains(rule.APIVersions, gvr.Version) && slices.Contains(rule.Resources, gvr.Resource)
			if !named || count == maxKinds {
				continue
			}
			found[gvr.GroupVersion().WithKind(k.Kind)] = true
			count++
		}
	}
	var out []schema.GroupVersionKind
	for gvk := range found {
		out = append(out, gvk)
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// A typed kind is one with its type as expressions see it.
type typed struct {
	gvk  schema.GroupVersionKind
	decl *apiservercel.DeclType
}

// warnings tell which expressions of a policy don't fit the types; params may be nil.
func warnings(p *admissionv1.ValidatingAdmissionPolicy, kinds []typed, params *apiservercel.DeclType) ([]admissionv1.ExpressionWarning, error) {
	sets := make([]*expression.Set, len(kinds))
	for i, k := range kinds {
		set, err := expression.NewTypedSet(expression.Has{Params: p.Spec.ParamKind != nil, Authorizer: true}, expression.Types{Object: k.decl, Params: params})
		if err != nil {
			return nil, err
		}
		for _, v := range p.Spec.Variables {
			_ = set.Declare(v.Name, v.Expression) // one that doesn't compile is of any type, as in upstream
		}
		sets[i] = set
	}
	var out []admissionv1.ExpressionWarning
	check := func(at *field.Path, text string) {
		var lines []string
		for i, set := range sets {
			if _, err := set.Compile(text, expression.Any); err != nil {
				lines = append(lines, fmt.Sprintf("%v: %v\n", kinds[i].gvk, strings.TrimPrefix(err.Error(), "compilation failed: ")))
			}
		}
		if len(lines) > 0 {
			out = append(out, admissionv1.ExpressionWarning{FieldRef: at.String(), Warning: strings.Join(lines, "\n")})
		}
	}
	for i, v := range p.Spec.Validations {
		at := field.NewPath("spec", "validations").Index(i)
		check(at.Child("expression"), v.Expression)
		if v.MessageExpression != "" {
			check(at.Child("messageExpression"), v.MessageExpression)
		}
	}
	return out, nil
}
