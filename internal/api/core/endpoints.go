package core

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// Endpoints is the row of core/v1 Endpoints.
var Endpoints = api.Register(&api.Resource{
	Name:         "endpoints",
	Singular:     "endpoints",
	Kind:         "Endpoints",
	ShortNames:   []string{"ep"},
	Namespaced:   true,
	MetaOnUpdate: "UN",
	Versions:     []api.Version{deprecatedEndpoints()},
	Prefix:       "services/endpoints",

	Default:                  api.On(defaultEndpoints),
	Validate:                 api.Check(func(ep *corev1.Endpoints) check.Errors { return validateSubsets(ep.Subsets, field.NewPath("subsets")) }),
	ValidateUpdate:           api.CheckUpdate(validateEndpointsUpdate),
	Warnings:                 api.Warn(endpointsWarnings),
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,

	Columns: []metav1.TableColumnDefinition{api.NameColumn, api.Column("Endpoints", "string", corev1.Endpoints{}.SwaggerDoc()["subsets"]), api.AgeColumn},
	Cells: api.Print(func(ep *corev1.Endpoints, p api.PrintOptions) []any {
		return []any{ep.Name, formatSubsets(ep.Subsets), api.Age(ep.CreationTimestamp, p)}
	}),
})

func deprecatedEndpoints() api.Version {
	v := api.Serve[corev1.Endpoints, corev1.EndpointsList]("v1")
	v.Deprecated = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
	return v
}

func defaultEndpoints(ep *corev1.Endpoints) {
	for i := range ep.Subsets {
		for j := range ep.Subsets[i].Ports {
			setString(&ep.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
		}
	}
}

func validateSubsets(subsets []corev1.EndpointSubset, path *field.Path) (e check.Errors) {
	for i, s := range subsets {
		at := path.Index(i)
		if len(s.Addresses)+len(s.NotReadyAddresses) == 0 {
			e.Required(at, "must specify `addresses` or `notReadyAddresses`")
		}
		for j := range s.Addresses {
			e.Add(validateEndpointAddress(&s.Addresses[j], at.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			e.Add(validateEndpointAddress(&s.NotReadyAddresses[j], at.Child("notReadyAddresses").Index(j))...)
		}
		for j := range s.Ports {
			e.Add(validateEndpointPort(&s.Ports[j], len(s.Ports) > 1, at.Child("ports").Index(j))...)
		}
	}
	return e
}

func validateEndpointAddress(a *corev1.EndpointAddress, path *field.Path) (e check.Errors) {
	e.IP(path.Child("ip"), a.IP, nil)
	if a.Hostname != "" {
		e.Label(path.Child("hostname"), a.Hostname)
	}
	if a.NodeName != nil {
		e.Messages(path.Child("nodeName"), *a.NodeName, apivalidation.NameIsDNSSubdomain(*a.NodeName, false))
	}
	e.Add(ValidateEndpointIP(a.IP, path.Child("ip"))...)
	return e
}

// ValidateEndpointIP refuses addresses at which no endpoint may be.
func ValidateEndpointIP(address string, path *field.Path) (e check.Errors) {
	ip := netutils.ParseIPSloppy(address)
	if ip == nil {
		e.Invalid(path, address, "must be a valid IP address")
		return e
	}
	if ip.IsUnspecified() {
		e.Invalidf(path, address, "may not be unspecified (%v)", address)
	}
	if ip.IsLoopback() {
		e.Invalid(path, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
	}
	if ip.IsLinkLocalUnicast() {
		e.Invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
	}
	if ip.IsLinkLocalMulticast() {
		e.Invalid(path, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
	}
	return e
}

func validateEndpointPort(p *corev1.EndpointPort, named bool, path *field.Path) (e check.Errors) {
	if p.Name != "" {
		e.Label(path.Child("name"), p.Name)
	} else if named {
		e.Required(path.Child("name"), "")
	}
	e.Port(path.Child("port"), p.Port)
	check.Enum(&e, path.Child("protocol"), p.Protocol, protocols...)
	if p.AppProtocol != nil {
		e.Qualified(path.Child("appProtocol"), *p.AppProtocol)
	}
	return e
}

// protocols are those of ports, in alphabetical order.
var protocols = []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}

// validateEndpointsUpdate lets old endpoints be that would not be accepted today.
func validateEndpointsUpdate(ep, old *corev1.Endpoints) check.Errors {
	if equality.Semantic.DeepEqual(ep.Subsets, old.Subsets) {
		return nil
	}
	return validateSubsets(ep.Subsets, field.NewPath("subsets"))
}

func endpointsWarnings(ep, _ *corev1.Endpoints) (warnings []string) {
	if ep.Labels["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
		return nil
	}
	for i, s := range ep.Subsets {
		at := field.NewPath("subsets").Index(i)
		for j, a := range s.Addresses {
			warnings = append(warnings, validation.GetWarningsForIP(at.Child("addresses").Index(j).Child("ip"), a.IP)...)
		}
		for j, a := range s.NotReadyAddresses {
			warnings = append(warnings, validation.GetWarningsForIP(at.Child("notReadyAddresses").Index(j).Child("ip"), a.IP)...)
		}
	}
	return warnings
}

// formatSubsets shows the first three endpoints.
func formatSubsets(subsets []corev1.EndpointSubset) string {
	if len(subsets) == 0 {
		return "<none>"
	}
	const shown = 3
	var list []string
	count := 0
	add := func(addresses []corev1.EndpointAddress, port string) {
		count += len(addresses)
		for _, a := range addresses {
			if len(list) == shown {
				return
			}
			if port == "" {
				list = append(list, a.IP)
				continue
			}
			list = append(list, net.JoinHostPort(a.IP, port))
		}
	}
	for _, s := range subsets {
		if len(s.Ports) == 0 {
			add(s.Addresses, "")
		}
		for _, p := range s.Ports {
			add(s.Addresses, strconv.Itoa(int(p.Port)))
		}
	}
	text := strings.Join(list, ",")
	if count > shown {
		return fmt.Sprintf("%s + %d more...", text, count-shown)
	}
	return text
}
