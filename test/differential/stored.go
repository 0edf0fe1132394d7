package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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

type identified struct{ version, kind, namespace, name string }

func identify(obj map[string]any) identified {
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	meta, _ := obj["metadata"].(map[string]any)
	return identified{text(obj, "apiVersion"), text(obj, "kind"), text(meta, "namespace"), text(meta, "name")}
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

// unplaced are kinds of which no second object with another name can be, or that a server would act by at once.
var unplaced = []string{"apiservices", "flowschemas", "prioritylevelconfigurations", "customresourcedefinitions", "events"}

// storedPhase makes the scripts that update what is stored though it is invalid: rules that became stricter must let be what isn't changed.
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
		g := &generator{options: o, resource: r, random: rand.New(rand.NewPCG(o.seed+1, hash(r.id())))}
		base, ok := stored[identified{r.GroupVersion, r.Kind, r.namespace, objectName(r.objects[min(1, len(r.objects)-1)])}]
		if !ok || slices.Contains(unplaced, r.Name) {
			continue // stored at another version than this, or by no request
		}
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

// ratchets puts values that a creation refuses into stored objects, one at a time, and updates these.
func (g *generator) ratchets(base storedObject) (out []script) {
	r := g.resource
	for _, f := range r.defs.fields(r.schema) {
		if !g.wanted(f) || !has(base.obj, f.path) || g.random.IntN(g.options.stored) > 0 {
			continue
		}
		values := f.values()
		for i, v := range values {
			name := fmt.Sprintf("stored-%x", hash(f.String()+v.label))
			obj := with(base.obj, r.schema, f, v)
			if meta, ok := obj["metadata"].(map[string]any); !ok || meta["name"] != objectName(base.obj) {
				continue
			}
			rename(obj, name)
			data, ok := toProtobuf(encode(obj))
			if !ok {
				continue
			}
			other := values[(i+1+g.random.IntN(len(values)-1))%len(values)]
			out = append(out, g.ratchet(f, v, step{key: path.Dir(base.key) + "/" + name, body: data}, obj, with(obj, r.schema, f, other)))
		}
	}
	return out
}

func rename(obj map[string]any, name string) {
	meta := obj["metadata"].(map[string]any)
	meta["name"] = name
	delete(meta, "resourceVersion")
}

// ratchet does store, unless obj is valid, and changes another thing than what makes it invalid, the same thing to another value, and nothing.
func (g *generator) ratchet(f field, v value, store step, obj, other map[string]any) script {
	r := g.resource
	name := objectName(obj)
	fresh := deepCopy(obj).(map[string]any)
	for _, made := range []string{"uid", "managedFields", "creationTimestamp", "generation"} {
		delete(fresh["metadata"].(map[string]any), made)
	}
	put := func(obj map[string]any, label, sub string) step {
		obj = labelled(versioned(obj), label)
		target := r.path(name)
		if sub != "" {
			target += "/" + sub
		}
		return step{method: http.MethodPut, path: target + dryRun, body: encode(obj)}
	}
	s := g.script(f, "stored "+v.label,
		step{method: http.MethodPost, path: r.path() + dryRun, body: encode(fresh), silent: true, premise: http.StatusUnprocessableEntity},
		store,
		step{method: http.MethodGet, path: r.path(name), capture: map[string]string{"version": "metadata.resourceVersion", "uid": "metadata.uid"}},
		put(obj, "", ""), put(obj, "changed", ""), put(other, "changed", ""),
		step{method: http.MethodPatch, path: r.path(name) + dryRun, body: []byte(`{"metadata":{"labels":{"by":"patch"}}}`), header: map[string]string{"Content-Type": "application/merge-patch+json"}},
	)
	if below := leaves(map[string]any{f.path[0]: obj[f.path[0]]}, nil); len(below) > 0 {
		l := pick(g.random, below)
		s.steps = append(s.steps, step{method: http.MethodPatch, path: r.path(name) + dryRun, body: encode(putAt(map[string]any{}, l.path, otherThan(l.value))),
			header: map[string]string{"Content-Type": "application/merge-patch+json"}})
	}
	if r.subresources["status"] != nil {
		s.steps = append(s.steps, put(obj, "changed", "status"))
	}
	return s
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
