package main

import (
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// generator makes the scripts of one resource.
type generator struct {
	options  options
	resource *resource
	random   *rand.Rand

	creates, changes []script
	contests         []script // these come last: they make objects, which lists would show

	alsoStored string      // another version than the resource's, at which its objects are stored
	siblings   []*resource // they show the same objects at other versions
}

func (g *generator) generate() {
	r := g.resource
	if r.schema == nil {
		return
	}
	for _, f := range r.defs.fields(r.schema) {
		if !g.wanted(f) {
			continue
		}
		g.createField(f)
		if r.Verbs.has("update") {
			g.updateField(f)
		}
		if r.Verbs.has("patch") {
			g.patchField(f)
		}
	}
	g.verbs()
	g.protobufs()
	g.appliers()
	g.directives()
	g.jsonPatches()
	for _, name := range sortedKeys(r.subresources) {
		g.subresource(name, r.subresources[name])
	}
}

// objectMeta are the fields of metadata that are tried for every kind; all of them are for ConfigMaps.
var objectMeta = []string{"metadata", "metadata.name", "metadata.generateName", "metadata.namespace", "metadata.labels", "metadata.labels.{}", "metadata.annotations",
	"metadata.finalizers", "metadata.ownerReferences", "metadata.resourceVersion", "metadata.uid", "metadata.creationTimestamp"}

// wanted leaves out fields that are the same for many kinds: most of metadata, most of pod templates.
func (g *generator) wanted(f field) bool {
	name, id := f.String(), g.resource.id()
	if strings.HasPrefix(name, "metadata") {
		return id == "v1/configmaps" || slices.Contains(objectMeta, name)
	}
	if id != "v1/pods" && (strings.Contains(name, "template.spec.") || strings.HasPrefix(name, "template.metadata.") || strings.Contains(name, "emplate.metadata.")) {
		return g.random.IntN(g.options.deepest) == 0
	}
	if id == "v1/pods" && (strings.HasPrefix(name, "spec.ephemeralContainers") || strings.HasPrefix(name, "spec.initContainers[].")) {
		return g.random.IntN(5) == 0
	}
	return true
}

// base is the object in which a field is tried: the first, from the rich one on, that has the field's parent.
func (g *generator) base(f field) map[string]any {
	objects := g.resource.objects
	for _, o := range objects[min(1, len(objects)-1):] {
		if has(o, f.path) {
			return o
		}
	}
	return objects[0]
}

// dryRun is in the query of everything that should leave no trace.
const dryRun = "?dryRun=All"

func (g *generator) query() string {
	return dryRun + pick(g.random, []string{"", "", "&fieldValidation=Strict", "&fieldValidation=Warn", "&fieldValidation=Ignore"})
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

func (g *generator) createField(f field) {
	r := g.resource
	if !r.Verbs.has("create") {
		return
	}
	for _, v := range f.values() {
		g.creates = append(g.creates, g.script(f, "create "+v.label, step{
			method: http.MethodPost, path: r.path() + g.query(), body: encode(with(g.base(f), r.schema, f, v)),
		}))
	}
}

func (g *generator) script(f field, name string, st ...step) script {
	return script{resource: g.resource.id(), field: f.String(), name: name, steps: st}
}

func objectName(obj map[string]any) string {
	meta, _ := obj["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	return name
}

// storing is the name of scripts that make the fixtures.
const storing = "store"

// serverWritten are kinds whose statuses the API server itself writes, when it comes to it.
var serverWritten = map[string]bool{"apiservices": true, "customresourcedefinitions": true, "flowschemas": true, "prioritylevelconfigurations": true, "servicecidrs": true}

// settled is how long the server may take for that.
const settled = 3 * time.Second

// storing makes the fixtures, and their statuses.
func (g *generator) storing() script {
	r := g.resource
	s := script{resource: r.id(), name: storing}
	for _, obj := range r.objects {
		s.steps = append(s.steps, step{method: http.MethodPost, path: r.path(), body: encode(obj), capture: map[string]string{"version": "metadata.resourceVersion"}})
		if serverWritten[r.Name] {
			continue
		}
		if obj["status"] != nil && r.subresources["status"] != nil {
			s.steps = append(s.steps, step{method: http.MethodPut, path: r.path(objectName(obj), "status"), body: encode(versioned(obj))})
		}
		s.steps = append(s.steps, step{method: http.MethodGet, path: r.path(objectName(obj))})
	}
	return s
}

// versioned gives an object the resourceVersion that its side knows.
func versioned(obj map[string]any) map[string]any {
	out := deepCopy(obj).(map[string]any)
	if meta, ok := out["metadata"].(map[string]any); ok && meta["resourceVersion"] == nil {
		meta["resourceVersion"] = "{{version}}"
	}
	return out
}

// get reads the version of the object that the next step changes.
func (g *generator) get(name string) step {
	return step{method: http.MethodGet, path: g.resource.path(name), capture: map[string]string{"version": "metadata.resourceVersion", "uid": "metadata.uid"}, silent: true}
}

func (g *generator) updateField(f field) {
	r := g.resource
	obj := g.base(f)
	name := objectName(obj)
	values := f.values()
	tried := []value{values[0], pick(g.random, values[1:]), pick(g.random, values[1:])}
	for _, v := range tried {
		body := with(obj, r.schema, f, v)
		if f.String() != "metadata.resourceVersion" {
			body = versioned(body)
		}
		g.changes = append(g.changes, g.script(f, "update "+v.label, g.get(name), step{method: http.MethodPut, path: r.path(name) + g.query(), body: encode(body)}))
	}
}

// patchField changes a field by each kind of patch.
func (g *generator) patchField(f field) {
	r := g.resource
	obj := g.base(f)
	name := objectName(obj)
	for _, kind := range []string{"merge-patch", "strategic-merge-patch", "json-patch", "apply-patch"} {
		v := pick(g.random, f.values())
		g.changes = append(g.changes, g.script(f, kind+" "+v.label, g.patch(kind, r.path(name), obj, f, v)))
	}
}

func (g *generator) patch(kind, path string, obj map[string]any, f field, v value) step {
	st := step{method: http.MethodPatch, path: path + g.query(), header: map[string]string{"Content-Type": "application/" + kind + "+json"}}
	switch kind {
	case "json-patch":
		op := map[string]any{"op": pick(g.random, []string{"add", "replace", "remove", "test"}), "path": pointer(f.path, obj), "value": v.v}
		if v.absent {
			op["op"] = "remove"
		}
		st.body = encode([]any{op})
	case "apply-patch":
		st.header["Content-Type"] = "application/apply-patch+yaml"
		st.path += "&fieldManager=applier" + pick(g.random, []string{"", "&force=true", "&force=false"})
		st.body = encode(with(identity(obj), g.resource.schema, f, v))
	default:
		if v.absent {
			v = value{label: "null"}
		}
		st.body = encode(with(map[string]any{}, g.resource.schema, f, v))
	}
	return st
}

// identity is what an applied configuration must have.
func identity(obj map[string]any) map[string]any {
	return map[string]any{"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": map[string]any{"name": objectName(obj)}}
}

// pointer is the JSON pointer of a field in an object.
func pointer(path []string, obj any) string {
	var b strings.Builder
	for _, p := range path {
		key := p
		switch p {
		case "[]":
			key = "0"
		case "{}":
			key = "k"
			if m, ok := obj.(map[string]any); ok && len(m) > 0 {
				key = sortedKeys(m)[0]
			}
		}
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key))
		obj, _ = child(obj, p)
	}
	return b.String()
}

// subresource tries the fields of a subresource.
func (g *generator) subresource(name string, sub *resource) {
	switch {
	case name == "scale":
		g.scale(sub)
	case len(sub.objects) > 0 && sub.Verbs.has("create"):
		g.createBelow(name, sub)
	case sub.Kind == g.resource.Kind && sub.Verbs.has("update"):
		g.updatePart(name, sub)
	}
}

// createBelow tries the fields of what is posted below an object: bindings, evictions, tokens.
func (g *generator) createBelow(name string, sub *resource) {
	if sub.schema == nil {
		return
	}
	for _, f := range sub.defs.fields(sub.schema) {
		base := sub.objects[len(sub.objects)-1]
		for _, v := range f.values() {
			g.changes = append(g.changes, script{resource: sub.id(), field: f.String(), name: "create " + v.label, steps: []step{{
				method: http.MethodPost, path: g.resource.path("rich", name) + g.query(), body: encode(with(base, sub.schema, f, v)),
			}}})
		}
	}
}

// updatePart changes each field through a subresource that is a part of its parent.
func (g *generator) updatePart(name string, sub *resource) {
	for _, f := range g.resource.defs.fields(g.resource.schema) {
		own := strings.HasPrefix(f.String(), "status") || name == "ephemeralcontainers" && strings.HasPrefix(f.String(), "spec.ephemeral") ||
			name == "resize" && strings.Contains(f.String(), "resources")
		if !own && g.random.IntN(10) > 0 || strings.HasPrefix(f.String(), "metadata") && !slices.Contains(objectMeta, f.String()) {
			continue
		}
		obj := g.base(f)
		target := objectName(obj)
		values := f.values()
		if !own {
			values = []value{pick(g.random, values)}
		}
		for _, v := range values {
			g.changes = append(g.changes, script{resource: sub.id(), field: f.String(), name: "update " + v.label, steps: []step{
				g.get(target),
				{method: http.MethodPut, path: g.resource.path(target, name) + g.query(), body: encode(versioned(with(obj, g.resource.schema, f, v)))},
			}})
		}
		kind := pick(g.random, []string{"merge-patch", "strategic-merge-patch", "json-patch", "apply-patch"})
		v := pick(g.random, f.values())
		g.changes = append(g.changes, script{resource: sub.id(), field: f.String(), name: kind + " " + v.label, steps: []step{g.patch(kind, g.resource.path(target, name), obj, f, v)}})
	}
}

// scale tries the fields of a scale.
func (g *generator) scale(sub *resource) {
	if sub.schema == nil {
		return
	}
	path := g.resource.path("rich", "scale")
	base := map[string]any{"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": map[string]any{"name": "rich"}, "spec": map[string]any{"replicas": 2}}
	add := func(f, name string, st ...step) {
		g.changes = append(g.changes, script{resource: sub.id(), field: f, name: name, steps: st})
	}
	add("", "get", step{method: http.MethodGet, path: path})
	for _, f := range sub.defs.fields(sub.schema) {
		for _, v := range f.values() {
			add(f.String(), "update "+v.label, step{method: http.MethodPut, path: path + g.query(), body: encode(with(base, sub.schema, f, v))})
			add(f.String(), "merge-patch "+v.label, step{method: http.MethodPatch, path: path + g.query(), header: map[string]string{"Content-Type": "application/merge-patch+json"},
				body: encode(with(map[string]any{}, sub.schema, f, v))})
		}
	}
}
