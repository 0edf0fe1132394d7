package main

import (
	"embed"
	"encoding/base64"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed fixtures
var fixtures embed.FS

// readFixtures reads the objects of a resource or subresource: the smallest, a rich one, perhaps further ones. Without a file there are none.
func readFixtures(gv, name, kind, namespace string) ([]map[string]any, error) {
	file := "fixtures/" + strings.ReplaceAll(gv, "/", ".") + "." + strings.ReplaceAll(name, "/", ".") + ".yaml"
	data, err := fixtures.ReadFile(file)
	if err != nil {
		return nil, nil
	}
	var out []map[string]any
	for _, doc := range strings.Split(string(data), "\n---\n") {
		var obj map[string]any
		if err := yaml.Unmarshal([]byte(doc), &obj); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		filled, err := fillIn(obj, namespace)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		obj = filled.(map[string]any)
		if obj == nil {
			obj = map[string]any{}
		}
		if obj["kind"] == nil {
			obj["apiVersion"], obj["kind"] = gv, kind
		}
		out = append(out, obj)
	}
	return out, nil
}

// fillIn replaces "$namespace", "$certificate" and the names of further files ("$podSpec").
func fillIn(v any, namespace string) (_ any, err error) {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if v[k], err = fillIn(v[k], namespace); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range v {
			if v[i], err = fillIn(v[i], namespace); err != nil {
				return nil, err
			}
		}
	case string:
		return variable(v, namespace)
	}
	return v, nil
}

func variable(text, namespace string) (any, error) {
	name, is := strings.CutPrefix(text, "$")
	switch {
	case !is:
		return text, nil
	case name == "namespace":
		return namespace, nil
	case name == "certificate":
		data, err := fixtures.ReadFile("fixtures/certificate.pem")
		return base64.StdEncoding.EncodeToString(data), err
	}
	data, err := fixtures.ReadFile("fixtures/" + name + ".yaml")
	if err != nil {
		return nil, err
	}
	var out any
	if err := yaml.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	return fillIn(out, namespace)
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = deepCopy(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = deepCopy(e)
		}
		return out
	}
	return v
}

// has tells whether the parent of a field is there.
func has(obj any, path []string) bool {
	for _, p := range path[:len(path)-1] {
		next, ok := child(obj, p)
		if !ok {
			return false
		}
		obj = next
	}
	_, isMap := obj.(map[string]any)
	_, isList := obj.([]any)
	return isMap || isList
}

func child(obj any, p string) (any, bool) {
	switch o := obj.(type) {
	case map[string]any:
		if p == "{}" {
			for _, k := range sortedKeys(o) {
				return o[k], true
			}
			return nil, false
		}
		v, ok := o[p]
		return v, ok
	case []any:
		if p == "[]" && len(o) > 0 {
			return o[0], true
		}
	}
	return nil, false
}

// with returns a copy of an object in which the field has the value. Parents that are missing are made from the schema.
func with(obj map[string]any, root *schema, f field, v value) map[string]any {
	out := deepCopy(obj).(map[string]any)
	put(out, field{schema: root, defs: f.defs}, f.path, v)
	return out
}

// put sets the field at path below node, whose schema is at's, and returns node as it is then.
func put(node any, at field, path []string, v value) any {
	if len(path) == 0 {
		return v.v
	}
	p, rest := path[0], path[1:]
	next, s := field{defs: at.defs}, at.schema
	switch p {
	case "[]":
		next.schema = first(at.defs.resolve(s.Items))
		list, _ := node.([]any)
		if len(list) == 0 {
			list = []any{next.example()}
		}
		if len(rest) == 0 && v.absent {
			return list[1:]
		}
		list[0] = put(list[0], next, rest, v)
		return list
	case "{}":
		next.schema = first(at.defs.resolve(s.AdditionalProperties))
		m, _ := node.(map[string]any)
		if m == nil {
			m = map[string]any{}
		}
		key := "k"
		if keys := sortedKeys(m); len(keys) > 0 {
			key = keys[0]
		}
		return putKey(m, key, next, rest, v)
	}
	next.schema = first(at.defs.resolve(s.Properties[p]))
	m, _ := node.(map[string]any)
	if m == nil {
		m, _ = at.example().(map[string]any)
	}
	if m == nil {
		m = map[string]any{}
	}
	return putKey(m, p, next, rest, v)
}

func putKey(m map[string]any, key string, next field, rest []string, v value) any {
	if len(rest) == 0 && v.absent {
		delete(m, key)
		return m
	}
	m[key] = put(m[key], next, rest, v)
	return m
}
