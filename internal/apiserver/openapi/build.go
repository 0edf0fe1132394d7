package openapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/schemamutation"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"clipper.dev/clipper/internal/apiserver"
)

var scaleModel = modelOf(autoscalingv1.Scale{})

// containersOf lists all routes, by the path that they lie below ("apis/apps/v1").
func containersOf(served []apiserver.Served) []*container {
	out := []*container{
		page("/.well-known/openid-configuration", "getServiceAccountIssuerOpenIDConfiguration", "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'", text, "application/json"),
		page("/openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset", "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)", text, "application/jwk-set+json"),
		page("/version", "getCodeVersion", "get the version information for this server", modelOf(version.Info{}), "application/json"),
		page("/api", "getAPIVersions", "get available API versions", modelOf(metav1.APIVersions{}), objects...),
		page("/apis", "getAPIVersions", "get available API versions", modelOf(metav1.APIGroupList{}), objects...),
	}
	byRoot := map[string]*container{}
	add := func(c *container) {
		byRoot[c.root] = c
		out = append(out, c)
	}
	for i := range served {
		s := &served[i]
		if group := "/apis/" + s.Row.Group; s.Row.Group != "" && byRoot[group] == nil {
			add(page(group, "getAPIGroup", "get information of a group", modelOf(metav1.APIGroup{}), objects...))
		}
		root := rootOf(schema.GroupVersion{Group: s.Row.Group, Version: s.Version.Version})
		if byRoot[root] == nil {
			add(page(root, "getAPIResources", "get available resources", modelOf(metav1.APIResourceList{}), objects...))
		}
		byRoot[root].routes = append(byRoot[root].routes, routesOf(s)...)
		if raw, err := schemaOf(s); err == nil && raw != nil {
			byRoot[root].schemas = append(byRoot[root].schemas, raw)
		}
	}
	return out
}

// page is a path with nothing but a document that can be read there.
func page(root, operation, description string, m model, produces ...string) *container {
	r := &route{method: http.MethodGet, path: root + "/", operation: operation, description: description, produces: produces}
	if m != text {
		r.consumes = produces
	}
	return &container{root: root, routes: []common.Route{r.returns(m, http.StatusOK)}}
}

// verbPrefixes are what the names of operations begin with. ("deletecollection" is taken for delete, as upstream does.)
var verbPrefixes = []string{"connect", "replace", "create", "delete", "watch", "patch", "list", "read", "get"}

// operationOf names an operation across all groups and versions, and its tag.
func operationOf(r common.Route) (id string, tags []string, err error) {
	name := r.OperationName()
	verb := ""
	for _, prefix := range verbPrefixes {
		if strings.HasPrefix(name, prefix) {
			verb = prefix
			break
		}
	}
	parts := strings.Split(strings.Trim(r.Path(), "/"), "/")
	if parts[0] == "api" {
		parts = append([]string{"apis", "core"}, parts[1:]...)
	}
	tag := camel(parts[0], false)
	prefix := verb
	if parts[0] == "apis" && len(parts) > 1 {
		group := strings.TrimSuffix(parts[1], ".k8s.io")
		tag = camel(group, false)
		prefix += camel(group, true)
		if len(parts) > 2 {
			tag += "_" + camel(parts[2], false)
			prefix += camel(parts[2], true)
		}
	}
	return prefix + camel(strings.TrimPrefix(name, verb), true), []string{tag}, nil
}

// camel drops what can't be in a name and capitalizes what follows it.
func camel(s string, upper bool) string {
	var out strings.Builder
	for i, r := range s {
		switch {
		case !unicode.IsLetter(r) && r != '_' && (i == 0 || !unicode.IsDigit(r)):
			upper = true
		case upper:
			out.WriteRune(unicode.ToUpper(r))
			upper = false
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

const (
	docTitle = "Kubernetes"
	bearer   = "BearerToken"
)

var defaultSecurity = []map[string][]string{{bearer: {}}}

// roots are the definitions that routes name.
func roots(containers []*container) []string {
	var out []string
	add := func(m any) {
		if m, ok := m.(model); ok && m != text {
			out = append(out, string(m))
		}
	}
	for _, c := range containers {
		for _, r := range c.routes {
			add(r.RequestPayloadSample())
			for _, a := range r.StatusCodeResponses() {
				add(a.Model())
			}
		}
	}
	return out
}

func routeContainers(list []*container) []common.RouteContainer {
	out := make([]common.RouteContainer, len(list))
	for i, c := range list {
		out[i] = c
	}
	return out
}

func plainName(name string) (string, spec.Extensions) { return name, nil }

// buildV2 makes the one document of version 2.
func buildV2(containers []*container, served []apiserver.Served, release string) (*spec.Swagger, error) {
	all, err := builtInDefinitions()
	if err != nil {
		return nil, err
	}
	if err := addCustom(all, served, true); err != nil {
		return nil, err
	}
	definitions, err := closure(all, roots(containers), ReferencePrefix)
	if err != nil {
		return nil, err
	}
	swagger, err := builder.BuildOpenAPISpecFromRoutes(routeContainers(containers), &common.Config{
		ProtocolList:      []string{"https"},
		Info:              &spec.Info{InfoProps: spec.InfoProps{Title: docTitle, Version: release}},
		CommonResponses:   map[int]spec.Response{http.StatusUnauthorized: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}}},
		GetDefinitions:    func(common.ReferenceCallback) map[string]common.OpenAPIDefinition { return definitions },
		GetDefinitionName: plainName, GetOperationIDAndTagsFromRoute: operationOf,
		SecurityDefinitions: &spec.SecurityDefinitions{bearer: {SecuritySchemeProps: spec.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
		}}},
		DefaultSecurity: defaultSecurity,
	})
	if err != nil {
		return nil, fmt.Errorf("build the OpenAPI v2 document: %w", err)
	}
	for name, s := range swagger.Definitions {
		swagger.Definitions[name] = *withoutDefaults.WalkSchema(&s)
	}
	return swagger, nil
}

// withoutDefaults drops defaults, which are not told in version 2.
var withoutDefaults = schemamutation.Walker{
	SchemaCallback: func(s *spec.Schema) *spec.Schema {
		if s.Default == nil {
			return s
		}
		c := *s
		c.Default = nil
		return &c
	},
	RefCallback: schemamutation.RefCallbackNoop,
}

// buildV3 makes the document of one path of version 3.
func buildV3(c *container, served []apiserver.Served, release string) (*spec3.OpenAPI, error) {
	all, err := builtInDefinitions()
	if err != nil {
		return nil, err
	}
	here := slices.DeleteFunc(slices.Clone(served), func(s apiserver.Served) bool {
		return rootOf(schema.GroupVersion{Group: s.Row.Group, Version: s.Version.Version}) != c.root
	})
	if err := addCustom(all, here, false); err != nil {
		return nil, err
	}
	definitions, err := closure(all, roots([]*container{c}), v3Prefix)
	if err != nil {
		return nil, err
	}
	doc, err := builder3.BuildOpenAPISpecFromRoutes([]common.RouteContainer{c}, &common.OpenAPIV3Config{
		Info:            &spec.Info{InfoProps: spec.InfoProps{Title: docTitle, Version: release}},
		CommonResponses: map[int]*spec3.Response{http.StatusUnauthorized: {ResponseProps: spec3.ResponseProps{Description: "Unauthorized"}}},
		Definitions:     definitions, GetDefinitionName: plainName, GetOperationIDAndTagsFromRoute: operationOf,
		SecuritySchemes: spec3.SecuritySchemes{bearer: {SecuritySchemeProps: spec3.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
		}}},
		DefaultSecurity: defaultSecurity,
	})
	if err != nil {
		return nil, fmt.Errorf("build the OpenAPI v3 document of %s: %w", c.root, err)
	}
	for _, name := range everywhere {
		if s := doc.Components.Schemas[name]; s != nil {
			s.AddExtension(gvkExtension, kindsIn(s.Extensions[gvkExtension], c.root))
		}
	}
	return doc, nil
}

const gvkExtension = "x-kubernetes-group-version-kind"

// everywhere are the definitions of kinds that every group and version has.
var everywhere = []string{string(modelOf(metav1.WatchEvent{})), string(modelOf(metav1.DeleteOptions{}))}

// kindsIn keeps, of the kinds that a definition is of, those that lie below a path, and the core group's.
func kindsIn(kinds any, root string) []any {
	all, _ := kinds.([]any)
	return slices.DeleteFunc(slices.Clone(all), func(kind any) bool {
		k, _ := kind.(map[string]any)
		group, _ := k["group"].(string)
		version, _ := k["version"].(string)
		gv := schema.GroupVersion{Group: group, Version: version}
		return rootOf(gv) != root && gv != (schema.GroupVersion{Version: "v1"})
	})
}
