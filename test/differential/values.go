package main

import (
	"strings"
)

// value is something to put in a field. absent removes the field instead.
type value struct {
	label  string
	v      any
	absent bool
}

var absent = value{label: "absent", absent: true}

// values are what is tried in a field: nothing, empty, other types, out of range, strings that few fields allow, each of an enumeration.
func (f field) values() []value {
	s := f.schema
	out := []value{absent, {label: "null"}}
	switch {
	case s.Format == "int-or-string":
		return append(out, value{label: "1", v: 1}, value{label: "percent", v: "50%"}, value{label: "text", v: "abc"}, value{label: "empty", v: ""},
			value{label: "negative", v: -1}, value{label: "large", v: 70000}, value{label: "200%", v: "200%"}, value{label: "object", v: map[string]any{}})
	case isQuantity(s):
		return append(out, value{label: "1", v: "1"}, value{label: "number", v: 3}, value{label: "fraction", v: "1500m"}, value{label: "negative", v: "-1"},
			value{label: "zero", v: "0"}, value{label: "text", v: "abc"}, value{label: "uncanonical", v: "0.5Gi"}, value{label: "object", v: map[string]any{}})
	case s.Type == "string":
		return append(out, f.texts()...)
	case s.Type == "integer", s.Type == "number":
		return append(out, value{label: "0", v: 0}, value{label: "1", v: 1}, value{label: "negative", v: -1}, value{label: "65536", v: 65536},
			value{label: "int32+1", v: 2147483648}, value{label: "string", v: "5"}, value{label: "fraction", v: 1.5})
	case s.Type == "boolean":
		return append(out, value{label: "true", v: true}, value{label: "false", v: false}, value{label: "string", v: "true"}, value{label: "number", v: 1})
	case s.Type == "array":
		one := f.item().example()
		return append(out, value{label: "empty", v: []any{}}, value{label: "one", v: []any{one}}, value{label: "twice", v: []any{one, one}},
			value{label: "[null]", v: []any{nil}}, value{label: "object", v: map[string]any{}}, value{label: "string", v: "x"})
	case s.AdditionalProperties != nil:
		one := field{schema: first(f.defs.resolve(s.AdditionalProperties)), defs: f.defs}.example()
		return append(out, value{label: "empty", v: map[string]any{}}, value{label: "one", v: map[string]any{"k": one}}, value{label: "empty key", v: map[string]any{"": one}},
			value{label: "bad key", v: map[string]any{"Not a key!": one}}, value{label: "null value", v: map[string]any{"k": nil}}, value{label: "array", v: []any{}})
	default:
		return append(out, value{label: "empty", v: map[string]any{}}, value{label: "example", v: f.example()}, value{label: "array", v: []any{}}, value{label: "string", v: "x"},
			value{label: "unknown field", v: map[string]any{"notThere": 1}})
	}
}

func (f field) texts() []value {
	s := f.schema
	out := []value{{label: "empty", v: ""}, {label: "number", v: 5}, {label: "object", v: map[string]any{}}}
	switch s.Format {
	case "date-time":
		return append(out, value{label: "time", v: "2020-01-01T00:00:00Z"}, value{label: "fraction", v: "2020-01-01T00:00:00.123456Z"}, value{label: "zone", v: "2020-01-01T02:00:00+02:00"}, value{label: "garbage", v: "yesterday"})
	case "byte":
		return append(out, value{label: "bytes", v: "YWJj"}, value{label: "garbage", v: "!!"})
	}
	for _, e := range s.Enum {
		if text, ok := e.(string); ok && text != "" {
			out = append(out, value{label: text, v: e})
		}
	}
	return append(out, value{label: "abc", v: "abc"}, value{label: "Bad_Value!", v: "Bad_Value!"}, value{label: "path", v: "../x"},
		value{label: "long", v: strings.Repeat("a", 300)})
}

func isQuantity(s *schema) bool {
	return s.Type == "" && len(s.OneOf) == 2 && s.OneOf[0].Type == "string" && s.OneOf[1].Type == "number"
}

func first[A, B any](a A, _ B) A { return a }

// item is the field of a list's items.
func (f field) item() field {
	return field{path: append(f.path[:len(f.path):len(f.path)], "[]"), schema: first(f.defs.resolve(f.schema.Items)), defs: f.defs}
}

// example makes the smallest value that the schema allows.
func (f field) example() any { return f.exampleWithin(0) }

func (f field) exampleWithin(depth int) any {
	s := f.schema
	switch {
	case s.Format == "int-or-string":
		return 1
	case isQuantity(s):
		return "1"
	case s.Format == "date-time":
		return "2020-01-01T00:00:00Z"
	case s.Format == "byte":
		return "YWJj"
	case s.Type == "string" && len(s.Enum) > 0:
		return s.Enum[len(s.Enum)-1]
	case s.Type == "string":
		return "x"
	case s.Type == "integer", s.Type == "number":
		return 1
	case s.Type == "boolean":
		return true
	case s.Type == "array":
		return []any{f.item().exampleWithin(depth + 1)}
	case s.AdditionalProperties != nil:
		return map[string]any{"k": field{schema: first(f.defs.resolve(s.AdditionalProperties)), defs: f.defs}.exampleWithin(depth + 1)}
	}
	out := map[string]any{}
	if depth > 6 {
		return out
	}
	for _, name := range s.Required {
		if p := s.Properties[name]; p != nil {
			out[name] = field{schema: first(f.defs.resolve(p)), defs: f.defs}.exampleWithin(depth + 1)
		}
	}
	return out
}
