package main

import (
	"context"
	"slices"
	"sort"
	"strings"
)

// schema is the part of an OpenAPI schema that requests are made from.
type schema struct {
	Ref                  string             `json:"$ref"`
	AllOf                []*schema          `json:"allOf"`
	OneOf                []*schema          `json:"oneOf"`
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Enum                 []any              `json:"enum"`
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	Items                *schema            `json:"items"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	MergeKey             string             `json:"x-kubernetes-patch-merge-key"`
	Kinds                []struct {
		Group, Version, Kind string
	} `json:"x-kubernetes-group-version-kind"`
}

// definitions are the schemas of one group version, by name.
type definitions map[string]*schema

// readDefinitions reads the document of a group version.
func readDefinitions(ctx context.Context, s *side, gv string) (definitions, error) {
	var doc struct {
		Components struct{ Schemas definitions }
	}
	path := strings.TrimPrefix((&resource{GroupVersion: gv}).prefix(), "/")
	if err := getJSON(ctx, s, "/openapi/v3/"+path, &doc); err != nil {
		return nil, err
	}
	return doc.Components.Schemas, nil
}

// of finds the schema of a kind.
func (d definitions) of(group, version, kind string) *schema {
	for _, s := range d {
		for _, k := range s.Kinds {
			if k.Group == group && k.Version == version && k.Kind == kind && len(s.Kinds) == 1 {
				return s
			}
		}
	}
	return nil
}

// resolve follows references. name is that of the last one.
func (d definitions) resolve(s *schema) (_ *schema, name string) {
	for {
		switch {
		case s.Ref != "":
			name = strings.TrimPrefix(s.Ref, "#/components/schemas/")
			s = d[name]
		case len(s.AllOf) == 1:
			s = s.AllOf[0]
		default:
			return s, name
		}
	}
}

// field is a place in the objects of a kind.
type field struct {
	path   []string // names, "[]" for the first item of a list, "{}" for a value of a map
	schema *schema  // resolved
	defs   definitions
}

func (f field) String() string {
	var b strings.Builder
	for i, p := range f.path {
		if i > 0 && p != "[]" {
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	return b.String()
}

// fields lists all places in a kind's objects, outer ones first. A type within itself is entered once.
func (d definitions) fields(s *schema) []field {
	var out []field
	var walk func(s *schema, path []string, within []string)
	walk = func(s *schema, path, within []string) {
		s, name := d.resolve(s)
		if len(path) > 0 {
			out = append(out, field{path: slices.Clone(path), schema: s, defs: d})
		}
		if name != "" && slices.Contains(within, name) || skipped(path) {
			return
		}
		within = append(slices.Clone(within), name)
		names := make([]string, 0, len(s.Properties))
		for p := range s.Properties {
			names = append(names, p)
		}
		sort.Strings(names)
		for _, p := range names {
			walk(s.Properties[p], append(path, p), within)
		}
		if s.Items != nil {
			walk(s.Items, append(path, "[]"), within)
		}
		if s.AdditionalProperties != nil {
			walk(s.AdditionalProperties, append(path, "{}"), within)
		}
	}
	walk(s, nil, nil)
	return out
}

// skipped are places below which every request fails in the same way.
func skipped(path []string) bool {
	return len(path) > 0 && path[len(path)-1] == "fieldsV1"
}
