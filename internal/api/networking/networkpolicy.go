package networking

import (
	"net/netip"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// NetworkPolicies is the row of networking.k8s.io/v1 NetworkPolicy.
var NetworkPolicies = api.Register(&api.Resource{
	Group:      networkingv1.GroupName,
	Name:       "networkpolicies",
	Singular:   "networkpolicy",
	Kind:       "NetworkPolicy",
	ShortNames: []string{"netpol"},
	Namespaced: true,
	Versions:   []api.Version{api.Serve[networkingv1.NetworkPolicy, networkingv1.NetworkPolicyList]("v1")},
	Prefix:     "networkpolicies",

	Default:                  api.On(defaultNetworkPolicy),
	Validate:                 api.Check(func(n *networkingv1.NetworkPolicy) check.Errors { return validateNetworkPolicy(n, policyOptions{}) }),
	ValidateUpdate:           api.CheckUpdate(validateNetworkPolicyUpdate),
	Warnings:                 api.Warn(networkPolicyWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		return !reflect.DeepEqual(n.(*networkingv1.NetworkPolicy).Spec, o.(*networkingv1.NetworkPolicy).Spec) // as upstream: an empty list is not none
	},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Pod-Selector", "string", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(n *networkingv1.NetworkPolicy, p api.PrintOptions) []any {
		return []any{n.Name, metav1.FormatLabelSelector(&n.Spec.PodSelector), api.Age(n.CreationTimestamp, p)}
	}),
})

// eachRule visits the rules of both directions, which are the same but for names.
func eachRule(s *networkingv1.NetworkPolicySpec, visit func(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, portsAt, peersAt *field.Path)) {
	for i, r := range s.Ingress {
		at := field.NewPath("spec", "ingress").Index(i)
		visit(r.Ports, r.From, at.Child("ports"), at.Child("from"))
	}
	for i, r := range s.Egress {
		at := field.NewPath("spec", "egress").Index(i)
		visit(r.Ports, r.To, at.Child("ports"), at.Child("to"))
	}
}

func defaultNetworkPolicy(n *networkingv1.NetworkPolicy) {
	eachRule(&n.Spec, func(ports []networkingv1.NetworkPolicyPort, _ []networkingv1.NetworkPolicyPeer, _, _ *field.Path) {
		for i := range ports {
			if ports[i].Protocol == nil {
				tcp := corev1.ProtocolTCP
				ports[i].Protocol = &tcp
			}
		}
	})
	if len(n.Spec.PolicyTypes) == 0 {
		n.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(n.Spec.Egress) > 0 {
			n.Spec.PolicyTypes = append(n.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

// policyOptions say where the validation of an update bends for what the object has already.
type policyOptions struct {
	selectors metav1validation.LabelSelectorValidationOptions
	cidrs     sets.Set[string]
}

func validateNetworkPolicyUpdate(n, old *networkingv1.NetworkPolicy) check.Errors {
	opts := policyOptions{cidrs: sets.New[string]()}
	opts.selectors.AllowInvalidLabelValueInSelector = len(metav1validation.ValidateLabelSelector(&old.Spec.PodSelector, opts.selectors, nil)) > 0
	eachRule(&old.Spec, func(_ []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, _, _ *field.Path) {
		for _, p := range peers {
			if p.IPBlock != nil {
				opts.cidrs.Insert(p.IPBlock.CIDR).Insert(p.IPBlock.Except...)
			}
		}
	})
	return validateNetworkPolicy(n, opts)
}

func validateNetworkPolicy(n *networkingv1.NetworkPolicy, opts policyOptions) (e check.Errors) {
	spec := field.NewPath("spec")
	e.Add(metav1validation.ValidateLabelSelector(&n.Spec.PodSelector, opts.selectors, spec.Child("podSelector"))...)
	eachRule(&n.Spec, func(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, portsAt, peersAt *field.Path) {
		for i := range ports {
			e.Add(validatePolicyPort(&ports[i], portsAt.Index(i))...)
		}
		for i := range peers {
			e.Add(validatePeer(&peers[i], peersAt.Index(i), opts)...)
		}
	})
	types, allowed := spec.Child("policyTypes"), []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	if len(n.Spec.PolicyTypes) > len(allowed) {
		e.Invalid(types, &n.Spec.PolicyTypes, "may not specify more than two policyTypes")
		return e
	}
	for i, t := range n.Spec.PolicyTypes {
		check.OneOf(&e, types.Index(i), t, allowed...)
	}
	return e
}

func validatePolicyPort(p *networkingv1.NetworkPolicyPort, at *field.Path) (e check.Errors) {
	if p.Protocol != nil {
		check.OneOf(&e, at.Child("protocol"), *p.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
	}
	end := at.Child("endPort")
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			e.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified")
		}
	case p.Port.Type == intstr.Int:
		e.Port(at.Child("port"), p.Port.IntVal)
		if p.EndPort != nil && *p.EndPort < p.Port.IntVal {
			e.Invalid(end, p.Port.IntVal, "must be greater than or equal to `port`")
		}
		if p.EndPort != nil {
			e.Port(end, *p.EndPort)
		}
	default:
		if p.EndPort != nil {
			e.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric")
		}
		e.Messages(at.Child("port"), p.Port.StrVal, validation.IsValidPortName(p.Port.StrVal))
	}
	return e
}

func validatePeer(p *networkingv1.NetworkPolicyPeer, at *field.Path, opts policyOptions) (e check.Errors) {
	if p.PodSelector != nil {
		e.Add(metav1validation.ValidateLabelSelector(p.PodSelector, opts.selectors, at.Child("podSelector"))...)
	}
	if p.NamespaceSelector != nil {
		e.Add(metav1validation.ValidateLabelSelector(p.NamespaceSelector, opts.selectors, at.Child("namespaceSelector"))...)
	}
	selected := p.PodSelector != nil || p.NamespaceSelector != nil
	if p.IPBlock != nil {
		e.Add(validateIPBlock(p.IPBlock, at.Child("ipBlock"), opts)...)
		if selected {
			e.Forbidden(at, "may not specify both ipBlock and another peer")
		}
	} else if !selected {
		e.Required(at, "must specify a peer")
	}
	return e
}

func validateIPBlock(b *networkingv1.IPBlock, at *field.Path, opts policyOptions) (e check.Errors) {
	if b.CIDR == "" {
		e.Required(at.Child("cidr"), "")
		return e
	}
	e.CIDR(at.Child("cidr"), b.CIDR, opts.cidrs)
	whole, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return e // it was complained of
	}
	for i, except := range b.Except {
		e.CIDR(at.Child("except").Index(i), except, opts.cidrs)
		if part, err := netip.ParsePrefix(except); err == nil && (!whole.Contains(part.Addr()) || whole.Bits() >= part.Bits()) {
			e.Invalid(at.Child("except").Index(i), except, "must be a strict subset of `cidr`")
		}
	}
	return e
}

func networkPolicyWarnings(n, _ *networkingv1.NetworkPolicy) (warnings []string) {
	eachRule(&n.Spec, func(_ []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, _, peersAt *field.Path) {
		for i, p := range peers {
			if p.IPBlock == nil {
				continue
			}
			at := peersAt.Index(i).Child("ipBlock")
			warnings = append(warnings, validation.GetWarningsForCIDR(at.Child("cidr"), p.IPBlock.CIDR)...)
			for k, except := range p.IPBlock.Except {
				warnings = append(warnings, validation.GetWarningsForCIDR(at.Child("except").Index(k), except)...)
			}
		}
	})
	return warnings
}
