package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
)

// storedObject is an object as it lies in the database.
type storedObject struct {
	key string
	obj map[string]any
}

type identified struct{ kind, namespace, name string }

func identify(obj map[string]any) identified {
	meta, _ := obj["metadata"].(map[string]any)
	return identified{textAt(obj, "kind"), textAt(meta, "namespace"), textAt(meta, "name")}
}

func textAt(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

// readStored reads all objects in the database whose form is known.
func readStored(ctx context.Context, d database) (map[identified]storedObject, error) {
	all, err := d.all(ctx, "/registry/")
	if err != nil {
		return nil, err
	}
	out := map[identified]storedObject{}
	for _, kv := range all {
		data := kv.Value
		if bytes.HasPrefix(data, protobufMagic) {
			data = fromProtobuf(data)
		}
		var obj map[string]any
		if json.Unmarshal(data, &obj) == nil && objectName(obj) != "" {
			out[identify(obj)] = storedObject{string(kv.Key), obj}
		}
	}
	return out, nil
}

var protobufMagic = []byte("k8s\x00")

// storedPhase makes the scripts that read and update what is stored though it is invalid: rules that became stricter must let be what isn't changed.
func storedPhase(ctx context.Context, o options, b *sides, resources []*resource) ([]script, error) {
	stored, err := readStored(ctx, b.database)
	if err != nil {
		return nil, err
	}
	var out []script
	for _, r := range resources {
		if !o.kinds.MatchString(r.id()) || len(r.objects) == 0 || !r.Verbs.has("update") {
			continue
		}
		name := objectName(r.objects[min(1, len(r.objects)-1)])
		base, ok := stored[identified{r.Kind, r.namespace, name}]
		if !ok {
			continue
		}
		g := &generator{options: o, resource: r, random: rand.New(rand.NewPCG(o.seed+1, hash(r.id())))}
		if version := textAt(base.obj, "apiVersion"); version != r.GroupVersion {
			g.alsoStored = version
			out = append(out, g.oldForms(base)...)
			base.obj = nil
			if err := getJSON(ctx, b.each[0], r.path(name), &base.obj); err != nil {
				return nil, err
			}
		}
		g.siblings = slices.Collect(others(resources, r))
		out = append(out, g.ratchets(base)...)
	}
	customs, err := custom(ctx, o, b)
	if err != nil {
		return nil, err
	}
	out = append(out, customs...)
	random := rand.New(rand.NewPCG(o.seed, 2))
	out = chosen(out, o, random)
	log.Printf("%d scripts on what is stored invalid", len(out))
	return out, nil
}

// others are the resources that show the same objects at another version.
func others(resources []*resource, r *resource) iter.Seq[*resource] {
	return func(yield func(*resource) bool) {
		for _, s := range resources {
			if s.Kind == r.Kind && s.Name == r.Name && s.GroupVersion != r.GroupVersion && !yield(s) {
				return
			}
		}
	}
}

// ratchets puts values that a creation refuses into stored objects, one at a time, reads and updates these.
func (g *generator) ratchets(base storedObject) (out []script) {
	r := g.resource
	for _, f := range r.defs.fields(r.schema) {
		if !g.options.fields.MatchString(f.String()) || !g.wanted(f) || !has(base.obj, f.path) || perilous(r.Name, f.path) || g.random.IntN(g.options.stored) > 0 {
			continue
		}
		values := f.values()
		for i, v := range values {
			fresh := renamed(base.obj, r.Name, fmt.Sprintf("stored-%x", hash(r.id()+f.String()+v.label)))
			obj := with(fresh, r.schema, f, v)
			if meta, ok := obj["metadata"].(map[string]any); !ok || meta["name"] != objectName(fresh) {
				continue
			}
			store, ok := g.storeStep(base.key, obj)
			if !ok {
				continue
			}
			other := values[(i+1+g.random.IntN(len(values)-1))%len(values)]
			out = append(out, g.ratchet(f, v, store, obj, with(obj, r.schema, f, other)))
		}
	}
	return out
}

// sameShape are kinds that upstream stores at an older version with the same fields.
var sameShape = []string{"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"}

// storeStep puts an object beside the one at key, in the encoding of its kind. ok is false if the encoding can't say what is in the object.
func (g *generator) storeStep(key string, obj map[string]any) (_ step, ok bool) {
	if slices.Contains(sameShape, g.resource.Name) && g.random.IntN(2) > 0 {
		obj = putAt(obj, []string{"apiVersion"}, g.alsoStored)
	}
	body := encode(obj)
	if !slices.Contains(storedAsText, g.resource.Name) {
		if body, ok = toProtobuf(body); !ok {
			return step{}, false
		}
	}
	return step{key: path.Dir(key) + "/" + objectName(obj), body: body}, true
}

// storedAsText are built-in kinds that upstream stores as JSON.
var storedAsText = []string{"customresourcedefinitions", "apiservices"}

// renamed returns a copy of obj with another name, and with what must go with it. The names of definitions are another's already, so that they
// aren't established: upstream's process ends when it publishes some that are invalid.
func renamed(obj map[string]any, resource, name string) map[string]any {
	obj = deepCopy(obj).(map[string]any)
	meta := obj["metadata"].(map[string]any)
	delete(meta, "resourceVersion")
	meta["name"] = name
	spec, _ := obj["spec"].(map[string]any)
	switch resource {
	case "customresourcedefinitions":
		delete(obj, "status")
		spec["names"].(map[string]any)["plural"] = name
		meta["name"] = name + "." + textAt(spec, "group")
	case "apiservices":
		spec["group"] = name + ".example.com"
		meta["name"] = textAt(spec, "version") + "." + textAt(spec, "group")
	}
	return obj
}

// perilous tells of fields that some values must not be stored in: upstream's process ends with a level that has no limits, and definitions might be
// established without their names. Objects whose namespace isn't that of their key were never possible.
func perilous(resource string, path []string) bool {
	switch {
	case slices.Equal(path, []string{"metadata", "namespace"}):
		return true
	case resource == "prioritylevelconfigurations":
		return path[0] == "spec" && len(path) < 3
	case resource == "customresourcedefinitions":
		return len(path) < 2 || path[0] == "status" || path[1] == "names" || path[1] == "group"
	}
	return false
}

// ratchet does store, unless obj is valid, reads it, and changes another thing than what makes it invalid, the same thing to another value, and nothing.
func (g *generator) ratchet(f field, v value, store step, obj, other map[string]any) script {
	r := g.resource
	name := objectName(obj)
	fresh := deepCopy(obj).(map[string]any)
	for _, made := range []string{"uid", "managedFields", "creationTimestamp", "generation"} {
		delete(fresh["metadata"].(map[string]any), made)
	}
	s := g.script(f, "stored "+v.label, step{method: http.MethodPost, path: r.path() + dryRun, body: encode(fresh), silent: true, premise: http.StatusUnprocessableEntity}, store)
	if r.Name == "customresourcedefinitions" {
		// Its status is written at once, and the whole with it as the version that definitions are stored at, which has defaults of its own.
		s.steps = append(s.steps, step{method: http.MethodGet, path: r.path(name), until: "status.conditions"})
	}
	s.steps = append(s.steps, reads(r, name)...)
	put := func(obj map[string]any, label string, sub ...string) {
		if serverWritten[r.Name] {
			s.steps = append(s.steps, g.get(name))
		}
		s.steps = append(s.steps, step{method: http.MethodPut, path: r.path(append([]string{name}, sub...)...) + dryRun, body: encode(labelled(versioned(obj), label))})
	}
	put(obj, "")
	put(obj, "changed")
	put(other, "changed")
	s.steps = append(s.steps, touch(r, name)...)
	if below := leaves(map[string]any{f.path[0]: obj[f.path[0]]}, nil); len(below) > 0 {
		l := pick(g.random, below)
		s.steps = append(s.steps, mergePatch(r.path(name), putAt(map[string]any{}, l.path, otherThan(l.value))))
	}
	if r.subresources["status"] != nil {
		put(obj, "changed", "status")
	}
	for _, sibling := range g.siblings {
		s.steps = append(s.steps, reads(sibling, name)...)
		s.steps = append(s.steps, touch(sibling, name)...)
	}
	return s
}

// oldForms changes what lies in the database at a version that isn't r's, scalar by scalar: as it was once valid, or never was.
func (g *generator) oldForms(base storedObject) (out []script) {
	r, version := g.resource, textAt(base.obj, "apiVersion")
	for i, l := range leaves(base.obj, nil) {
		if l.path[0] == "metadata" || perilous(r.Name, l.path) {
			continue
		}
		values := []value{absent, {label: "other", v: otherThan(l.value)}}
		if _, isText := l.value.(string); isText {
			values = append(values, value{label: "empty", v: ""})
		}
		for _, v := range values {
			obj := putAt(renamed(base.obj, r.Name, fmt.Sprintf("old-%d-%s", i, v.label)), l.path, v.v)
			store, ok := g.storeStep(base.key, obj)
			if !ok {
				continue
			}
			s := g.script(field{path: l.path}, "stored at "+version+" "+v.label, store)
			s.steps = append(append(s.steps, reads(r, objectName(obj))...), touch(r, objectName(obj))...)
			out = append(out, s)
		}
	}
	return out
}

// reads reads one object in several ways.
func reads(r *resource, name string) []step {
	whole := get(r.path(name))
	whole.capture = map[string]string{"version": "metadata.resourceVersion", "uid": "metadata.uid", "object": ""}
	return []step{
		whole,
		get(r.path(), "fieldSelector=metadata.name%3D"+name),
		withHeader(get(r.path(name)), "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"),
		withHeader(get(r.path(name)), "Accept", protobufType),
	}
}

// touch writes an object as it was read last, changes a label by patches of both kinds, and deletes it, all dry.
func touch(r *resource, name string) []step {
	apply := map[string]any{"apiVersion": r.GroupVersion, "kind": r.Kind, "metadata": map[string]any{"name": name, "labels": map[string]any{"by": "applier"}}}
	again := step{method: http.MethodPut, path: r.path(name) + dryRun, body: []byte("{{object}}")}
	fresh := step{method: http.MethodGet, path: r.path(name), capture: map[string]string{"object": ""}, silent: true}
	return []step{
		fresh, again,
		mergePatch(r.path(name), map[string]any{"metadata": map[string]any{"labels": map[string]any{"by": "patch"}}}),
		{method: http.MethodPatch, path: r.path(name) + dryRun + "&fieldManager=applier", body: encode(apply), header: map[string]string{"Content-Type": "application/apply-patch+yaml"}},
		{method: http.MethodDelete, path: r.path(name) + dryRun},
	}
}

func mergePatch(path string, body map[string]any) step {
	return step{method: http.MethodPatch, path: path + dryRun, body: encode(body), header: map[string]string{"Content-Type": "application/merge-patch+json"}}
}

// labelled returns a copy of obj with a label more.
func labelled(obj map[string]any, label string) map[string]any {
	if label == "" {
		return obj
	}
	obj = deepCopy(obj).(map[string]any)
	meta, ok := obj["metadata"].(map[string]any)
	if !ok {
		return obj
	}
	labels, ok := meta["labels"].(map[string]any)
	if !ok {
		labels = map[string]any{}
		meta["labels"] = labels
	}
	labels["was"] = label
	return obj
}
