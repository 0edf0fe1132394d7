package networking

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

const classAnnotation = "kubernetes.io/ingress.class" // from before there was a field

// Ingresses is the row of networking.k8s.io/v1 Ingress.
var Ingresses = api.Register(&api.Resource{
	Group:        networkingv1.GroupName,
	Name:         "ingresses",
	Singular:     "ingress",
	Kind:         "Ingress",
	ShortNames:   []string{"ing"},
	Namespaced:   true,
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[networkingv1.Ingress, networkingv1.IngressList]("v1")},
	Prefix:       "ingress",

	PrepareCreate:            api.On(func(i *networkingv1.Ingress) { i.Status = networkingv1.IngressStatus{} }),
	PrepareUpdate:            api.OnUpdate(func(n, o *networkingv1.Ingress) { n.Status = o.Status }),
	Validate:                 api.Check(validateNewIngress),
	ValidateUpdate:           api.CheckUpdate(validateIngressUpdate),
	Warnings:                 api.Warn(ingressWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		return !equality.Semantic.DeepEqual(n.(*networkingv1.Ingress).Spec, o.(*networkingv1.Ingress).Spec)
	},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Class", "string", "The name of the IngressClass resource that should be used for additional configuration"),
		api.Column("Hosts", "string", "Hosts that incoming requests are matched against before the ingress rule"),
		api.Column("Address", "string", "Address is a list containing ingress points for the load-balancer"),
		api.Column("Ports", "string", "Ports of TLS configurations that open"),
		api.AgeColumn,
	},
	Cells: api.Print(func(i *networkingv1.Ingress, p api.PrintOptions) []any {
		ports := "80"
		if len(i.Spec.TLS) > 0 {
			ports = "80, 443"
		}
		class := ptr.Deref(i.Spec.IngressClassName, "<none>")
		return []any{i.Name, class, printHosts(i.Spec.Rules), printAddresses(i.Status.LoadBalancer.Ingress), ports, api.Age(i.CreationTimestamp, p)}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *networkingv1.Ingress) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckUpdate(validateIngressStatus),
		Warnings:       api.Warn(ingressStatusWarnings),
	},
})

func printHosts(rules []networkingv1.IngressRule) string {
	const most = 3
	var hosts []string
	more := false
	for _, r := range rules {
		more = more || len(hosts) == most
		if !more && r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	switch list := strings.Join(hosts, ","); {
	case len(hosts) == 0:
		return "*"
	case more:
		return fmt.Sprintf("%s + %d more...", list, len(rules)-most)
	default:
		return list
	}
}

func printAddresses(points []networkingv1.IngressLoadBalancerIngress) string {
	var all []string
	for _, p := range points {
		if p.IP != "" {
			all = append(all, p.IP)
		} else if p.Hostname != "" {
			all = append(all, p.Hostname)
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ",")
}

func ingressWarnings(i, old *networkingv1.Ingress) []string {
	if _, there := i.Annotations[classAnnotation]; there && old == nil && i.Spec.IngressClassName == nil {
		return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
	}
	return nil
}

func ingressStatusWarnings(i, _ *networkingv1.Ingress) (warnings []string) {
	for k, point := range i.Status.LoadBalancer.Ingress {
		if point.IP != "" {
			warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("status", "loadBalancer", "ingress").Index(k), point.IP)...)
		}
	}
	return warnings
}

func validateNewIngress(i *networkingv1.Ingress) check.Errors {
	e := validateIngressSpec(&i.Spec, ingressOptions{})
	if class, there := i.Annotations[classAnnotation]; there && i.Spec.IngressClassName != nil && class != *i.Spec.IngressClassName {
		e.Invalid(field.NewPath("annotations").Child(classAnnotation), class, "must match `ingressClassName` when both are specified")
	}
	return e
}

// ingressOptions say where the validation of an update bends for what the object has already.
type ingressOptions struct {
	badSecretName   bool
	badWildcardRule bool
}

func validateIngressUpdate(i, old *networkingv1.Ingress) check.Errors {
	return validateIngressSpec(&i.Spec, ingressOptions{
		badSecretName: slices.ContainsFunc(old.Spec.TLS, func(t networkingv1.IngressTLS) bool { return len(badSecretName(t.SecretName)) > 0 }),
		badWildcardRule: slices.ContainsFunc(old.Spec.Rules, func(r networkingv1.IngressRule) bool {
			return strings.Contains(r.Host, "*") && len(validateRuleValue(&r, nil)) > 0
		}),
	})
}

func badSecretName(name string) []string {
	if name == "" {
		return nil
	}
	return apivalidation.NameIsDNSSubdomain(name, false)
}

func validateIngressSpec(s *networkingv1.IngressSpec, opts ingressOptions) (e check.Errors) {
	spec := field.NewPath("spec")
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		e.Invalid(spec, s.Rules, "either `defaultBackend` or `rules` must be specified")
	}
	if s.DefaultBackend != nil {
		e.Add(validateBackend(s.DefaultBackend, spec.Child("defaultBackend"))...)
	}
	for i := range s.Rules {
		r, at := &s.Rules[i], spec.Child("rules").Index(i)
		if isIP(r.Host) {
			e.Invalid(at.Child("host"), r.Host, "must be a DNS name, not an IP address")
		}
		if r.Host != "" {
			validateHost(&e, r.Host, at.Child("host"))
		}
		if !opts.badWildcardRule || !strings.Contains(r.Host, "*") {
			e.Add(validateRuleValue(r, at)...)
		}
	}
	for i, t := range s.TLS {
		at := spec.Child("tls").Index(i)
		for k, host := range t.Hosts {
			validateHost(&e, host, at.Child("hosts").Index(k))
		}
		if !opts.badSecretName {
			e.Messages(at.Child("secretName"), t.SecretName, badSecretName(t.SecretName))
		}
	}
	if s.IngressClassName != nil {
		e.Subdomain(spec.Child("ingressClassName"), *s.IngressClassName)
	}
	return e
}

// isIP also tells addresses that only older parsers take.
func isIP(text string) bool { return netutils.ParseIPSloppy(text) != nil }

func validateHost(e *check.Errors, host string, at *field.Path) {
	if strings.Contains(host, "*") {
		e.Messages(at, host, validation.IsWildcardDNS1123Subdomain(host))
	} else {
		e.Subdomain(at, host)
	}
}

func validateRuleValue(r *networkingv1.IngressRule, at *field.Path) (e check.Errors) {
	if r.HTTP == nil {
		return nil
	}
	at = at.Child("http", "paths")
	if len(r.HTTP.Paths) == 0 {
		e.Required(at, "")
	}
	for i := range r.HTTP.Paths {
		e.Add(validateHTTPPath(&r.HTTP.Paths[i], at.Index(i))...)
	}
	return e
}

func validateHTTPPath(p *networkingv1.HTTPIngressPath, at *field.Path) (e check.Errors) {
	if p.PathType == nil {
		e.Required(at.Child("pathType"), "pathType must be specified")
		return e
	}
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(p.Path, "/") {
			e.Invalid(at.Child("path"), p.Path, "must be an absolute path")
		}
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, bad) {
				e.Invalidf(at.Child("path"), p.Path, "must not contain '%s'", bad)
			}
		}
		for _, bad := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, bad) {
				e.Invalidf(at.Child("path"), p.Path, "cannot end with '%s'", bad)
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
			e.Invalid(at.Child("path"), p.Path, "must be an absolute path")
		}
	default:
		e.Add(field.NotSupported(at.Child("pathType"), *p.PathType, []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	e.Add(validateBackend(&p.Backend, at.Child("backend"))...)
	return e
}

func validateBackend(b *networkingv1.IngressBackend, at *field.Path) (e check.Errors) {
	switch {
	case b.Resource != nil && b.Service != nil:
		e.Invalid(at, "", "cannot set both resource and service backends")
	case b.Resource != nil:
		e.Add(validateReference(b.Resource, at.Child("resource"))...)
	case b.Service == nil:
		e.Invalid(at, "", "resource or service backend is required")
	default:
		if b.Service.Name == "" {
			e.Required(at.Child("service", "name"), "")
		} else {
			e.Label(at.Child("service", "name"), b.Service.Name)
		}
		switch port := b.Service.Port; {
		case port.Name != "" && port.Number != 0:
			e.Invalid(at, "", "cannot set both port name & port number")
		case port.Name != "":
			e.Messages(at.Child("service", "port", "name"), port.Name, validation.IsValidPortName(port.Name))
		case port.Number != 0:
			e.Port(at.Child("service", "port", "number"), port.Number)
		default:
			e.Required(at, "port name or number is required")
		}
	}
	return e
}

// validateReference checks a reference to an object of any kind.
func validateReference(r *corev1.TypedLocalObjectReference, at *field.Path) (e check.Errors) {
	if r.APIGroup != nil {
		e.Subdomain(at.Child("apiGroup"), *r.APIGroup)
	}
	segment := func(name, value string) {
		if value == "" {
			e.Required(at.Child(name), "")
		} else {
			e.Messages(at.Child(name), value, path.IsValidPathSegmentName(value))
		}
	}
	segment("kind", r.Kind)
	segment("name", r.Name)
	return e
}

func validateIngressStatus(i, old *networkingv1.Ingress) (e check.Errors) {
	before := sets.New[string]()
	for _, p := range old.Status.LoadBalancer.Ingress {
		before.Insert(p.IP)
	}
	for k, p := range i.Status.LoadBalancer.Ingress {
		at := field.NewPath("status", "loadBalancer", "ingress").Index(k)
		if p.IP != "" {
			e.IP(at.Child("ip"), p.IP, before)
		}
		if p.Hostname != "" {
			e.Subdomain(at.Child("hostname"), p.Hostname)
			if isIP(p.Hostname) {
				e.Invalid(at.Child("hostname"), p.Hostname, "must be a DNS name, not an IP address")
			}
		}
	}
	return e
}
