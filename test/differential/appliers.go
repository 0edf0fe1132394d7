package main

import (
	"fmt"
	"net/http"
	"slices"
)

// unnamed are kinds whose objects can't have any name, or stay after they are deleted: appliers can't make theirs.
var unnamed = []string{"namespaces", "customresourcedefinitions", "apiservices", "ipaddresses", "servicecidrs", "events"}

// leaf is a scalar in an object, and the field that it is in.
type leaf struct {
	path  []string // without lists' items
	value any
}

// leaves lists the scalars of an object that lie in no list.
func leaves(v any, path []string) (out []leaf) {
	m, isMap := v.(map[string]any)
	if !isMap {
		if _, isList := v.([]any); isList || v == nil {
			return nil
		}
		return []leaf{{slices.Clone(path), v}}
	}
	for _, k := range sortedKeys(m) {
		if len(path) == 0 && (k == "apiVersion" || k == "kind" || k == "status") || len(path) == 1 && path[0] == "metadata" && (k == "name" || k == "namespace") {
			continue
		}
		out = append(out, leaves(m[k], append(path, k))...)
	}
	return out
}

// putAt sets a place in an object of maps.
func putAt(obj map[string]any, path []string, v any) map[string]any {
	out := deepCopy(obj).(map[string]any)
	at := out
	for _, p := range path[:len(path)-1] {
		next, ok := at[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[p] = next
		}
		at = next
	}
	if v == nil {
		delete(at, path[len(path)-1])
	} else {
		at[path[len(path)-1]] = v
	}
	return out
}

// otherThan is another value of the same type.
func otherThan(v any) any {
	switch v := v.(type) {
	case bool:
		return !v
	case float64:
		return v + 1
	case string:
		return v + "x"
	}
	return "x"
}

// appliers lets two managers apply configurations that share, contest and give up fields, and an editor change what they own. Each script
// has an object of its own, which is really written.
func (g *generator) appliers() {
	r := g.resource
	if !r.Verbs.has("patch") || !r.Verbs.has("get") || slices.Contains(unnamed, r.Name) {
		return
	}
	whole := deepCopy(r.objects[min(1, len(r.objects)-1)]).(map[string]any)
	delete(whole, "status")
	all := leaves(whole, nil)
	g.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i, l := range all[:min(len(all), 4)] {
		_, version := splitVersion(r.GroupVersion)
		name := fmt.Sprintf("applied-%s-%d", version, i) // what two versions show is the same object
		mine := putAt(whole, []string{"metadata", "name"}, name)
		bare := identity(mine)
		g.contests = append(g.contests, script{resource: r.id(), field: field{path: l.path}.String(), name: "two appliers", steps: g.contest(name, mine, bare, l)})
	}
}

func (g *generator) contest(name string, mine, bare map[string]any, l leaf) []step {
	r := g.resource
	apply := func(manager string, force bool, obj map[string]any) step {
		path := r.path(name) + "?fieldManager=" + manager
		if force {
			path += "&force=true"
		}
		return step{method: http.MethodPatch, path: path, body: encode(obj), header: map[string]string{"Content-Type": "application/apply-patch+yaml"}}
	}
	share, other := putAt(bare, l.path, l.value), putAt(bare, l.path, otherThan(l.value))
	edit := step{method: http.MethodPatch, path: r.path(name) + "?fieldManager=editor", body: encode(putAt(map[string]any{}, l.path, l.value)), header: map[string]string{"Content-Type": "application/merge-patch+json"}}
	return []step{
		apply("one", false, mine),
		apply("two", false, share), // both own it
		apply("two", false, other), // a conflict with one
		apply("two", true, other),  // taken from one
		apply("one", false, mine),  // a conflict with two
		apply("one", false, putAt(mine, l.path, nil)),
		apply("two", false, bare), // nobody owns it: it goes
		apply("one", true, mine),
		apply("two", false, share),
		apply("one", false, bare), // all that two doesn't own goes
		apply("one", true, mine),
		edit,
		apply("two", false, other), // a conflict with the editor, if there was a change
		apply("one", false, mine),
		{method: http.MethodGet, path: r.path(name)},
		{method: http.MethodPut, path: r.path(name) + "?fieldManager=writer", body: encode(putAt(mine, l.path, otherThan(l.value)))},
		apply("one", false, mine),
		{method: http.MethodDelete, path: r.path(name) + "?gracePeriodSeconds=0"},
	}
}
