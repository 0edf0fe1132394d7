package main

import (
	"fmt"
	"net/http"
	"slices"
)

// directives tries what strategic merge patches say beyond values, at each map and list of the rich object.
func (g *generator) directives() {
	r := g.resource
	if !r.Verbs.has("patch") {
		return
	}
	obj := r.objects[min(1, len(r.objects)-1)]
	for _, f := range r.defs.fields(r.schema) {
		v, ok := placed(obj, f.path)
		if !ok || slices.Contains(f.path, "{}") || f.path[len(f.path)-1] == "[]" || !g.wanted(f) {
			continue
		}
		var bodies []map[string]any
		name := f.path[len(f.path)-1]
		switch v := v.(type) {
		case map[string]any:
			bodies = mapDirectives(name, v)
		case []any:
			if len(v) > 0 {
				bodies = listDirectives(name, v, f.schema.MergeKey)
			}
		}
		for _, body := range bodies {
			whole, ok := g.within(obj, f.path[:len(f.path)-1], body)
			if !ok {
				continue
			}
			g.changes = append(g.changes, g.script(f, fmt.Sprintf("directive %.60s", encode(body)), step{
				method: http.MethodPatch, path: r.path(objectName(obj)) + g.query(), body: encode(whole), header: map[string]string{"Content-Type": "application/strategic-merge-patch+json"},
			}))
		}
	}
}

// placed returns what lies at a path.
func placed(obj any, path []string) (any, bool) {
	for _, p := range path {
		next, ok := child(obj, p)
		if !ok {
			return nil, false
		}
		obj = next
	}
	return obj, true
}

func mapDirectives(name string, v map[string]any) (out []map[string]any) {
	for _, d := range []string{"replace", "delete", "merge", "nonsense"} {
		out = append(out, map[string]any{name: map[string]any{"$patch": d}})
	}
	keys := sortedKeys(v)
	if len(keys) == 0 {
		return out
	}
	one := keys[0]
	return append(out,
		map[string]any{name: map[string]any{"$patch": "replace", one: v[one]}},
		map[string]any{name: map[string]any{"$retainKeys": []any{one}, one: v[one]}},
		map[string]any{name: map[string]any{"$retainKeys": []any{}}},
		map[string]any{name: map[string]any{"$retainKeys": []any{"absent"}, one: v[one]}},
		map[string]any{name: map[string]any{"$retainKeys": one}},
		map[string]any{name: map[string]any{one: nil}},
	)
}

func listDirectives(name string, v []any, key string) (out []map[string]any) {
	item, isMap := v[0].(map[string]any)
	if !isMap {
		reversed := slices.Clone(v)
		slices.Reverse(reversed)
		return []map[string]any{
			{"$deleteFromPrimitiveList/" + name: []any{v[0]}},
			{"$deleteFromPrimitiveList/" + name: []any{"absent"}},
			{"$deleteFromPrimitiveList/" + name: v[0]},
			{"$setElementOrder/" + name: reversed},
			{"$setElementOrder/" + name: append(reversed, "zzz"), name: []any{"zzz"}},
			{"$setElementOrder/" + name: []any{"other"}, name: []any{"zzz"}},
			{name: []any{"zzz", v[0]}},
		}
	}
	out = []map[string]any{
		{name: []any{map[string]any{"$patch": "replace"}, item}},
		{name: []any{map[string]any{"$patch": "replace"}}},
		{name: []any{map[string]any{"$patch": "nonsense"}}},
		{name: []any{map[string]any{"$patch": "delete"}}},
	}
	if key == "" || item[key] == nil {
		return append(out, map[string]any{"$setElementOrder/" + name: []any{item}})
	}
	only := map[string]any{key: item[key]}
	added := deepCopy(item).(map[string]any)
	added[key] = otherThan(item[key])
	return append(out,
		map[string]any{name: []any{map[string]any{"$patch": "delete", key: item[key]}}},
		map[string]any{name: []any{map[string]any{"$patch": "delete", key: "absent"}}},
		map[string]any{name: []any{map[string]any{"$patch": "merge", key: item[key]}}},
		map[string]any{name: []any{map[string]any{"$retainKeys": []any{key}, key: item[key]}}},
		map[string]any{name: []any{only}},
		map[string]any{name: []any{added}},
		map[string]any{"$setElementOrder/" + name: []any{map[string]any{key: added[key]}, only}, name: []any{added}},
		map[string]any{"$setElementOrder/" + name: []any{only}, name: []any{added}},
		map[string]any{"$setElementOrder/" + name: []any{}},
	)
}

// within wraps a patch of an inner map into one of the object. Lists on the way need a merge key, by which the item is named.
func (g *generator) within(obj map[string]any, path []string, body map[string]any) (map[string]any, bool) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] != "[]" {
			body = map[string]any{path[i]: body}
			continue
		}
		key := g.mergeKey(path[:i])
		value, ok := placed(obj, append(slices.Clone(path[:i+1]), key))
		if key == "" || !ok {
			return nil, false
		}
		item := map[string]any{key: value}
		for k, v := range body {
			item[k] = v
		}
		body = map[string]any{path[i-1]: []any{item}}
		i--
	}
	return body, true
}

// mergeKey is that of the list at a path.
func (g *generator) mergeKey(path []string) string {
	s := g.resource.schema
	for _, p := range path {
		s, _ = g.resource.defs.resolve(s)
		switch {
		case p == "[]" && s.Items != nil:
			s = s.Items
		case s.Properties[p] != nil:
			s = s.Properties[p]
		default:
			return ""
		}
	}
	if s.MergeKey != "" {
		return s.MergeKey
	}
	s, _ = g.resource.defs.resolve(s)
	return s.MergeKey
}

// jsonPatches tries the operations of JSON patches, good and bad, dry.
func (g *generator) jsonPatches() {
	r := g.resource
	if !r.Verbs.has("patch") {
		return
	}
	obj := r.objects[min(1, len(r.objects)-1)]
	bodies := []string{
		`[]`, `{}`, `null`, `[{}]`, `[{"op":"nonsense","path":"/metadata"}]`, `[{"op":"add"}]`, `[{"path":"/metadata/labels"}]`, `[{"op":"add","path":"metadata/labels","value":{}}]`, `[{"op":"add","path":"","value":{}}]`,
		`[{"op":"test","path":"/metadata/name","value":"` + objectName(obj) + `"}]`, `[{"op":"test","path":"/metadata/name","value":"x"}]`, `[{"op":"test","path":"/not/there","value":"x"}]`, `[{"op":"test","path":"/not","value":null}]`,
		`[{"op":"add","path":"/metadata/labels","value":{"a~b":"c","d/e":"f"}},{"op":"remove","path":"/metadata/labels/d~1e"},{"op":"test","path":"/metadata/labels/a~0b","value":"c"}]`,
		`[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},{"op":"copy","from":"/metadata/labels/a","path":"/metadata/labels/c"},{"op":"move","from":"/metadata/labels/a","path":"/metadata/labels/d"}]`,
		`[{"op":"move","from":"/metadata/labels/absent","path":"/metadata/labels/d"}]`, `[{"op":"copy","from":"/absent","path":"/metadata/labels/d"}]`, `[{"op":"copy","path":"/metadata/labels/d"}]`, `[{"op":"move","from":"/metadata","path":"/metadata/labels"}]`,
		`[{"op":"add","path":"/metadata/finalizers","value":["a.example.com/1"]},{"op":"add","path":"/metadata/finalizers/-","value":"a.example.com/2"},{"op":"add","path":"/metadata/finalizers/0","value":"a.example.com/0"},{"op":"remove","path":"/metadata/finalizers/1"}]`,
		`[{"op":"add","path":"/metadata/finalizers","value":["a.example.com/1"]},{"op":"add","path":"/metadata/finalizers/5","value":"a.example.com/2"}]`, `[{"op":"add","path":"/metadata/finalizers","value":["a.example.com/1"]},{"op":"remove","path":"/metadata/finalizers/-1"}]`,
		`[{"op":"add","path":"/metadata/finalizers","value":["a.example.com/1"]},{"op":"replace","path":"/metadata/finalizers/x","value":"a.example.com/2"}]`, `[{"op":"remove","path":"/absent"}]`, `[{"op":"replace","path":"/absent","value":1}]`,
		`[{"op":"replace","path":"/metadata/name","value":"other"}]`, `[{"op":"remove","path":"/metadata/name"}]`, `[{"op":"remove","path":"/metadata"}]`, `[{"op":"remove","path":"/metadata/resourceVersion"}]`, `[{"op":"replace","path":"/metadata/resourceVersion","value":"1"}]`,
		`[{"op":"replace","path":"/metadata/uid","value":"x"}]`, `[{"op":"replace","path":"/kind","value":"Other"}]`, `[{"op":"add","path":"/notThere","value":1}]`, `[{"op":"add","path":"/metadata/notThere","value":1},{"op":"test","path":"/metadata/notThere","value":1}]`,
		`[{"op":"add","path":"/metadata/labels","value":{"a":"b"},"more":1}]`, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},`, `[{"op":"remove","path":"/spec"}]`, `[{"op":"replace","path":"/metadata/managedFields","value":[]}]`, `[{"op":"replace","path":"/metadata/managedFields","value":[{}]}]`,
		`[{"op":"remove","path":"/metadata/managedFields"}]`, `[{"op":"copy","from":"/metadata","path":"/spec"}]`, `[{"op":"move","from":"/metadata/creationTimestamp","path":"/metadata/deletionTimestamp"}]`,
	}
	for _, body := range bodies {
		g.about("json patch "+body, step{method: http.MethodPatch, path: r.path(objectName(obj)) + g.query(), body: []byte(body), header: map[string]string{"Content-Type": "application/json-patch+json"}})
	}
}
