package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// IPAddresses is the row of networking.k8s.io/v1 IPAddress.
var IPAddresses = api.Register(&api.Resource{
	Group:        networkingv1.GroupName,
	Name:         "ipaddresses",
	Singular:     "ipaddress",
	Kind:         "IPAddress",
	ShortNames:   []string{"ip"},
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[networkingv1.IPAddress, networkingv1.IPAddressList]("v1")},
	Prefix:       "ipaddresses",

	Validate: api.Check(validateIPAddress),
	ValidateUpdate: api.CheckUpdate(func(n, o *networkingv1.IPAddress) (e check.Errors) {
		e.Add(validateIPAddress(n)...)
		e.Unchanged(field.NewPath("spec", "parentRef"), n.Spec.ParentRef, o.Spec.ParentRef)
		return e
	}),
	NameRule:                 addressName,
	AllowUnconditionalUpdate: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("ParentRef", "string", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"]),
	},
	Cells: api.Print(func(a *networkingv1.IPAddress, _ api.PrintOptions) []any {
		return []any{a.Name, printParent(a.Spec.ParentRef)}
	}),
})

// addressName requires an IP address in its canonical form.
func addressName(name string, _ bool) (out []string) {
	for _, err := range validation.IsValidIP(&field.Path{}, name) {
		out = append(out, err.Detail)
	}
	return out
}

func validateIPAddress(a *networkingv1.IPAddress) (e check.Errors) {
	at, ref := field.NewPath("spec", "parentRef"), a.Spec.ParentRef
	if ref == nil {
		e.Required(at, "")
		return e
	}
	if ref.Group != "" {
		e.Subdomain(at.Child("group"), ref.Group)
	}
	for _, part := range []struct {
		name, value string
		required    bool
	}{{"resource", ref.Resource, true}, {"name", ref.Name, true}, {"namespace", ref.Namespace, false}} {
		if part.value == "" {
			if part.required {
				e.Required(at.Child(part.name), "")
			}
			continue
		}
		e.Messages(at.Child(part.name), part.value, path.IsValidPathSegmentName(part.value))
	}
	return e
}

func printParent(ref *networkingv1.ParentReference) string {
	if ref == nil {
		return "<none>"
	}
	parts := []string{strings.ToLower(schema.GroupResource{Group: ref.Group, Resource: ref.Resource}.String())}
	if ref.Namespace != "" {
		parts = append(parts, ref.Namespace)
	}
	return strings.Join(append(parts, ref.Name), "/")
}
