package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Schema returns the schema of a kind that is served here, in which no reference is left, save one that would never end; nil if there is none.
func (d *Documents) Schema(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	root := rootOf(gvk.GroupVersion())
	doc, ok, err := d.v3(strings.TrimPrefix(root, "/"), asJSON)
	if err != nil || !ok {
		return nil, err
	}
	raw, err := unpack(doc.gzipped)
	if err != nil {
		return nil, fmt.Errorf("unpack the document of %s: %w", root, err)
	}
	var all spec3.OpenAPI
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("read the document of %s: %w", root, err)
	}
	if all.Components == nil {
		return nil, nil
	}
	for _, s := range all.Components.Schemas {
		var kinds []struct{ Group, Version, Kind string }
		if s.Extensions.GetObject("x-kubernetes-group-version-kind", &kinds) != nil {
			continue
		}
		if slices.Contains(kinds, struct{ Group, Version, Kind string }{gvk.Group, gvk.Version, gvk.Kind}) {
			return resolve(s, all.Components.Schemas, nil), nil
		}
	}
	return nil, nil
}

// resolve puts what a schema refers to in the references' places. above are the references that it stands in.
func resolve(s *spec.Schema, all map[string]*spec.Schema, above []string) *spec.Schema {
	out := *s
	if ref := referred(s); ref != "" {
		target, ok := all[ref]
		if !ok || slices.Contains(above, ref) {
			return &spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}}}
		}
		described := s.Description
		out = *resolve(target, all, append(slices.Clip(above), ref))
		if described != "" {
			out.Description = described
		}
		return &out
	}
	if out.Properties != nil {
		out.Properties = maps.Clone(out.Properties)
		for name, p := range out.Properties {
			out.Properties[name] = *resolve(&p, all, above)
		}
	}
	if a := out.AdditionalProperties; a != nil && a.Schema != nil {
		out.AdditionalProperties = &spec.SchemaOrBool{Allows: a.Allows, Schema: resolve(a.Schema, all, above)}
	}
	if i := out.Items; i != nil && i.Schema != nil {
		out.Items = &spec.SchemaOrArray{Schema: resolve(i.Schema, all, above)}
	}
	return &out
}

// referred is the name of what a schema refers to, by itself or by an allOf of one; "" if it doesn't.
func referred(s *spec.Schema) string {
	ref := s.Ref.String()
	if ref == "" && len(s.AllOf) == 1 {
		ref = s.AllOf[0].Ref.String()
	}
	_, name, _ := strings.Cut(ref, "#/components/schemas/")
	return name
}
