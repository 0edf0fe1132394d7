package networking

import (
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// ServiceCIDRs is the row of networking.k8s.io/v1 ServiceCIDR.
var ServiceCIDRs = api.Register(&api.Resource{
	Group:    networkingv1.GroupName,
	Name:     "servicecidrs",
	Singular: "servicecidr",
	Kind:     "ServiceCIDR",
	Versions: []api.Version{api.Serve[networkingv1.ServiceCIDR, networkingv1.ServiceCIDRList]("v1")},
	Prefix:   "servicecidrs",

	PrepareCreate:            api.On(func(c *networkingv1.ServiceCIDR) { c.Status = networkingv1.ServiceCIDRStatus{} }),
	PrepareUpdate:            api.OnUpdate(func(n, o *networkingv1.ServiceCIDR) { n.Status = o.Status }),
	Validate:                 api.Check(validateServiceCIDR),
	ValidateUpdate:           api.CheckUpdate(validateServiceCIDRUpdate),
	AllowUnconditionalUpdate: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("CIDRs", "string", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(c *networkingv1.ServiceCIDR, p api.PrintOptions) []any {
		return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), api.Age(c.CreationTimestamp, p)}
	}),

	Status: &api.Status{
		ResetFields: []string{"metadata", "spec"},
		PrepareUpdate: api.OnUpdate(func(n, o *networkingv1.ServiceCIDR) {
			n.Spec = o.Spec
			metav1.ResetObjectMetaForStatus(n, o)
		}),
	},
})

var cidrsPath = field.NewPath("spec", "cidrs")

func validateServiceCIDR(c *networkingv1.ServiceCIDR) (e check.Errors) {
	cidrs := c.Spec.CIDRs
	if len(cidrs) == 0 {
		e.Required(cidrsPath, "at least one CIDR required")
		return e
	}
	if len(cidrs) > 2 {
		e.Invalid(cidrsPath, c.Spec, "may only hold up to 2 values")
		return e
	}
	for i, cidr := range cidrs {
		e.Add(validation.IsValidCIDR(cidrsPath.Index(i), cidr)...)
	}
	if len(cidrs) == 2 && sameFamily(cidrs[0], cidrs[1]) {
		e.Invalid(cidrsPath, cidrs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64")
	}
	return e
}

func sameFamily(a, b string) bool {
	p, errP := netip.ParsePrefix(a)
	q, errQ := netip.ParsePrefix(b)
	return errP == nil && errQ == nil && p.Addr().Is4() == q.Addr().Is4()
}

// validateServiceCIDRUpdate lets a second family be added, and nothing else be changed.
func validateServiceCIDRUpdate(c, old *networkingv1.ServiceCIDR) (e check.Errors) {
	added := len(c.Spec.CIDRs) - len(old.Spec.CIDRs)
	if added != 0 && (added != 1 || len(old.Spec.CIDRs) != 1) {
		e.Invalid(cidrsPath, c.Spec.CIDRs, check.Immutable)
		return e
	}
	for i, cidr := range old.Spec.CIDRs {
		if cidr != c.Spec.CIDRs[i] {
			e.Invalid(cidrsPath.Index(i), c.Spec.CIDRs[i], check.Immutable)
		}
	}
	if added == 1 {
		e.Add(validateServiceCIDR(c)...)
	}
	return e
}
