package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// EndpointSlices is the row of discovery.k8s.io/v1 EndpointSlice.
var EndpointSlices = api.Register(&api.Resource{
	Group:        discoveryv1.GroupName,
	Name:         "endpointslices",
	Singular:     "endpointslice",
	Kind:         "EndpointSlice",
	Namespaced:   true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList]("v1")},
	Prefix:       "endpointslices",

	Default:                  api.On(defaultEndpointSlice),
	PrepareCreate:            api.On(func(s *discoveryv1.EndpointSlice) { moveNodeNames(s, nil) }),
	PrepareUpdate:            api.OnUpdate(prepareEndpointSlice),
	Validate:                 api.Check(func(s *discoveryv1.EndpointSlice) check.Errors { return validateEndpointSlice(s, nil) }),
	ValidateUpdate:           api.CheckUpdate(validateEndpointSliceUpdate),
	Warnings:                 api.Warn(endpointSliceWarnings),
	HasGeneration:            true,
	SpecChanged:              func(n, o api.Object) bool { return false }, // prepareEndpointSlice counts
	AllowUnconditionalUpdate: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("AddressType", "string", discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"]),
		api.Column("Ports", "string", discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"]),
		api.Column("Endpoints", "string", discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(s *discoveryv1.EndpointSlice, p api.PrintOptions) []any {
		return []any{s.Name, string(s.AddressType), printPorts(s.Ports), printEndpoints(s.Endpoints), api.Age(s.CreationTimestamp, p)}
	}),
})

// Upstream's bounds.
const (
	maxEndpoints, maxAddresses, maxPorts    = 1000, 100, 20000
	maxTopology, maxZoneHints, maxNodeHints = 16, 8, 8
)

func defaultEndpointSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		if s.Ports[i].Name == nil {
			s.Ports[i].Name = new(string)
		}
		if s.Ports[i].Protocol == nil {
			tcp := corev1.ProtocolTCP
			s.Ports[i].Protocol = &tcp
		}
	}
}

// moveNodeNames drops the deprecated topology of endpoints that changed: v1 has a field for the one thing that it said.
func moveNodeNames(s, old *discoveryv1.EndpointSlice) {
	if old != nil && equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
		return
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if name, ok := e.DeprecatedTopology[corev1.LabelHostname]; ok && e.NodeName == nil && old != nil && hadNode(old, name) {
			e.NodeName = &name
		}
		e.DeprecatedTopology = nil
	}
}

func hadNode(s *discoveryv1.EndpointSlice, name string) bool {
	return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.DeprecatedTopology[corev1.LabelHostname] == name })
}

// prepareEndpointSlice counts generations before it drops what no longer belongs there, as upstream does.
func prepareEndpointSlice(s, old *discoveryv1.EndpointSlice) {
	if endpointSliceChanged(s, old) {
		s.Generation = old.Generation + 1
	}
	moveNodeNames(s, old)
}

func endpointSliceChanged(s, old *discoveryv1.EndpointSlice) bool {
	return s.AddressType != old.AddressType || !equality.Semantic.DeepEqual(s.Labels, old.Labels) ||
		!equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) || !equality.Semantic.DeepEqual(s.Ports, old.Ports)
}

func validateEndpointSliceUpdate(s, old *discoveryv1.EndpointSlice) check.Errors {
	e := validateEndpointSlice(s, old)
	e.Unchanged(field.NewPath("addressType"), s.AddressType, old.AddressType)
	return e
}

func validateEndpointSlice(s, old *discoveryv1.EndpointSlice) (e check.Errors) {
	check.Enum(&e, field.NewPath("addressType"), s.AddressType, discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	e.Add(validatePorts(s.Ports, field.NewPath("ports"))...)
	endpoints := validateEndpoints(s, field.NewPath("endpoints"))
	// What was stored by a looser version stays acceptable as long as it isn't touched.
	if len(endpoints) > 0 && (old == nil || !equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints)) {
		e.Add(endpoints...)
	}
	return e
}

func validateEndpoints(s *discoveryv1.EndpointSlice, path *field.Path) (e check.Errors) {
	if len(s.Endpoints) > maxEndpoints {
		e.TooMany(path, len(s.Endpoints), maxEndpoints)
		return e
	}
	for i := range s.Endpoints {
		e.Add(validateEndpoint(&s.Endpoints[i], s.AddressType, path.Index(i))...)
	}
	return e
}

func validateEndpoint(endpoint *discoveryv1.Endpoint, family discoveryv1.AddressType, path *field.Path) (e check.Errors) {
	addresses := path.Child("addresses")
	switch n := len(endpoint.Addresses); {
	case n == 0:
		e.Required(addresses, "must contain at least 1 address")
	case n > maxAddresses:
		e.TooMany(addresses, n, maxAddresses)
	}
	for i, address := range endpoint.Addresses {
		e.Add(validateAddress(address, family, addresses, i)...)
	}
	if endpoint.NodeName != nil {
		e.Messages(path.Child("nodeName"), *endpoint.NodeName, apivalidation.NameIsDNSSubdomain(*endpoint.NodeName, false))
	}
	topology := path.Child("deprecatedTopology")
	if n := len(endpoint.DeprecatedTopology); n > maxTopology {
		e.TooMany(topology, n, maxTopology)
	}
	e.Add(metav1validation.ValidateLabels(endpoint.DeprecatedTopology, topology)...)
	if endpoint.Hostname != nil {
		e.Label(path.Child("hostname"), *endpoint.Hostname)
	}
	if endpoint.Hints != nil {
		e.Add(validateHints(endpoint.Hints, path.Child("hints"))...)
	}
	return e
}

func validateAddress(address string, family discoveryv1.AddressType, path *field.Path, i int) (e check.Errors) {
	wrong := ""
	ip, err := netip.ParseAddr(address)
	switch family {
	case discoveryv1.AddressTypeFQDN:
		e.Add(validation.IsFullyQualifiedDomainName(path.Index(i), address)...)
		return e
	case discoveryv1.AddressTypeIPv4:
		e.IP(path.Index(i), address, nil)
		if err == nil && !ip.Is4() {
			wrong = "must be an IPv4 address"
		}
	case discoveryv1.AddressTypeIPv6:
		e.Add(validation.IsValidIP(path.Index(i), address)...)
		if err == nil && ip.Is4() {
			wrong = "must be an IPv6 address"
		}
	default:
		return nil // The type's own error says enough.
	}
	if len(e) > 0 {
		return e
	}
	if wrong != "" {
		e.Invalid(path, address, wrong)
	}
	e.Add(core.ValidateEndpointIP(address, path.Index(i))...)
	return e
}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) (e check.Errors) {
	if len(ports) > maxPorts {
		e.TooMany(path, len(ports), maxPorts)
		return e
	}
	seen := map[string]bool{}
	for i := range ports {
		p, at := &ports[i], path.Index(i)
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if name != "" {
			e.Label(at.Child("name"), name)
		}
		if seen[name] {
			e.Duplicate(at.Child("name"), p.Name)
		}
		seen[name] = true
		if p.Protocol == nil {
			e.Required(at.Child("protocol"), "")
		} else {
			check.OneOf(&e, at.Child("protocol"), *p.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
		}
		if p.AppProtocol != nil {
			e.Qualified(at.Child("appProtocol"), *p.AppProtocol)
		}
	}
	return e
}

func validateHints(hints *discoveryv1.EndpointHints, path *field.Path) (e check.Errors) {
	zones := path.Child("forZones")
	if n := len(hints.ForZones); n > maxZoneHints {
		e.TooMany(zones, n, maxZoneHints)
		return e
	}
	seen := map[string]bool{}
	for i, z := range hints.ForZones {
		at := zones.Index(i).Child("name")
		if seen[z.Name] {
			e.Duplicate(at, z.Name)
		}
		seen[z.Name] = true
		e.Messages(at, z.Name, validation.IsValidLabelValue(z.Name))
	}
	nodes := path.Child("forNodes")
	if n := len(hints.ForNodes); n > maxNodeHints {
		e.TooMany(nodes, n, maxNodeHints)
		return e
	}
	clear(seen)
	for i, n := range hints.ForNodes {
		at := nodes.Index(i).Child("name")
		if seen[n.Name] {
			e.Duplicate(at, n.Name)
		}
		seen[n.Name] = true
		e.Messages(at, n.Name, apivalidation.NameIsDNSSubdomain(n.Name, false))
	}
	return e
}

// ownControllers write addresses in their canonical form, so that theirs need no look.
var ownControllers = []string{"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"}

func endpointSliceWarnings(s, old *discoveryv1.EndpointSlice) (out []string) {
	if old == nil && s.AddressType == discoveryv1.AddressTypeFQDN {
		out = append(out, "spec.addressType: FQDN endpoints are deprecated")
	}
	if slices.Contains(ownControllers, s.Labels[discoveryv1.LabelManagedBy]) {
		return out
	}
	for i := range s.Endpoints {
		for j, address := range s.Endpoints[i].Addresses {
			out = append(out, validation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), address)...)
		}
	}
	return out
}

// shownAtMost is how many ports or addresses a printed column shows.
const shownAtMost = 3

func printPorts(ports []discoveryv1.EndpointPort) string {
	var names []string
	for _, p := range ports {
		switch {
		case p.Port != nil:
			names = append(names, fmt.Sprint(*p.Port))
		case p.Name != nil && *p.Name != "":
			names = append(names, *p.Name)
		default:
			names = append(names, "*")
		}
	}
	return printSome(names, "<unset>")
}

func printEndpoints(endpoints []discoveryv1.Endpoint) string {
	var addresses []string
	for _, e := range endpoints {
		addresses = append(addresses, e.Addresses...)
	}
	return printSome(addresses, "<unset>")
}

func printSome(all []string, none string) string {
	if more := len(all) - shownAtMost; more > 0 {
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:shownAtMost], ","), more)
	}
	return cmp.Or(strings.Join(all, ","), none)
}
