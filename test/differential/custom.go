package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

const customGroup = "ratchet.example.com/v1"

// custom makes a kind of its own, with a schema that says all that schemas can, and scripts that create and change its objects. The last of
// the fixtures breaks all its rules: it is put into the database. Both sides stand on the same one.
func custom(ctx context.Context, o options, b *sides) ([]script, error) {
	r, err := customResource(ctx, b)
	if err != nil || !o.kinds.MatchString(r.id()) {
		return nil, err
	}
	old := r.objects[len(r.objects)-1]
	for _, obj := range r.objects[:2] {
		if a := ask(ctx, b.each[0], step{method: http.MethodPost, path: r.path(), body: encode(obj)}, nil); a.err != nil || a.code != http.StatusCreated {
			return nil, fmt.Errorf("create %s %s: %w %s", r.Kind, objectName(obj), a.err, a.body)
		}
	}
	if err := b.database.put(ctx, "/registry/ratchet.example.com/things/"+r.namespace+"/old", encode(old)); err != nil {
		return nil, err
	}
	g := &generator{options: o, resource: r, random: rand.New(rand.NewPCG(o.seed, hash(r.id())))}
	g.generate()
	g.about("stored get", get(r.path("old")))
	g.paths()
	for _, f := range r.defs.fields(r.schema) {
		if !g.wanted(f) {
			continue
		}
		for _, v := range f.values() {
			g.changeOld(old, f, v)
		}
	}
	return append(g.creates, g.changes...), nil // no contests: they write
}

// paths tries what custom resources have no paths for, and media types that they don't have: upstream's handler of them is not that of other kinds.
func (g *generator) paths() {
	r := g.resource
	group := "/apis/" + customGroup
	everywhere, second := group+"/things", strings.Replace(r.path("old"), "/v1/", "/v2/", 1)
	body := encode(map[string]any{"apiVersion": customGroup, "kind": r.Kind, "metadata": map[string]any{"name": "old", "labels": map[string]any{"a": "b"}}})
	const protobuf, merge = "application/vnd.kubernetes.protobuf", "application/merge-patch+json"
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "PROPFIND", http.MethodOptions, http.MethodHead} {
		for _, path := range []string{everywhere, everywhere + "/old", group + "/nothings", group + "/namespaces/" + r.namespace + "/nothings/old", r.path("old", "status"), r.path("old", "scale"), r.path("old", "absent"),
			r.path("old", "status") + "/more", r.path("absent"), second, second + "/status", second + "/absent"} {
			for _, contentType := range []string{"application/json", merge, protobuf, "application/strategic-merge-patch+json; charset=utf-8"} {
				if method == http.MethodDelete && strings.HasSuffix(path, "/things") {
					continue // of all namespaces
				}
				g.about(fmt.Sprintf("%s %s as %s", method, path, contentType), withHeader(step{method: method, path: path + dryRun, body: body}, "Content-Type", contentType))
			}
		}
	}
	for _, accept := range []string{"application/yaml", protobuf, protobuf + ", application/json", protobuf + ";as=PartialObjectMetadata;v=v1;g=meta.k8s.io", protobuf + ";as=Table;v=v1;g=meta.k8s.io"} {
		for _, path := range []string{r.path("old"), r.path("old", "scale"), r.path() + "?limit=1", r.path() + "?watch=true&" + briefly, "/api/v1/configmaps?watch=true&" + briefly} {
			g.about(fmt.Sprintf("accept %s at %s", accept, path), withHeader(get(path), "Accept", accept))
		}
	}
	for _, to := range []string{customGroup, "ratchet.example.com/v2", "ratchet.example.com/v3", "other.example.com/v1", "v1"} {
		for _, path := range []string{r.path("rich"), r.path("rich", "status"), strings.Replace(r.path("rich"), "/v1/", "/v2/", 1)} {
			g.about("version "+to+" to "+path, withHeader(step{method: http.MethodPatch, path: path + dryRun, body: encode(map[string]any{"apiVersion": to})}, "Content-Type", merge))
		}
	}
}

// changeOld changes a field of what is stored, in both of its parts.
func (g *generator) changeOld(old map[string]any, f field, v value) {
	r := g.resource
	body := encode(versioned(with(old, r.schema, f, v)))
	g.changes = append(g.changes, g.script(f, "stored update "+v.label, g.get("old"),
		step{method: http.MethodPut, path: r.path("old") + dryRun, body: body},
		step{method: http.MethodPut, path: r.path("old", "status") + dryRun, body: body}),
		g.script(f, "stored patch "+v.label, g.patch(pick(g.random, []string{"merge-patch", "json-patch", "apply-patch"}), r.path("old"), old, f, v)))
}

func customResource(ctx context.Context, b *sides) (*resource, error) {
	r := &resource{GroupVersion: customGroup, Name: "things", Kind: "Thing", Namespaced: true, namespace: "differ-things"}
	r.Verbs = verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	r.subresources = map[string]*resource{"status": {GroupVersion: customGroup, Name: "things/status", Kind: "Thing", Namespaced: true, namespace: r.namespace, Verbs: verbs{"get", "patch", "update"}}}
	definition, err := readDocuments("fixtures/custom/definition.yaml")
	if err != nil {
		return nil, err
	}
	if r.objects, err = readDocuments("fixtures/custom/objects.yaml"); err != nil {
		return nil, err
	}
	if err := makeNamespace(ctx, b.each[0], r.namespace); err != nil {
		return nil, err
	}
	a := ask(ctx, b.each[0], step{method: http.MethodPost, path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body: encode(definition[0])}, nil)
	if a.err != nil || a.code != http.StatusCreated {
		return nil, fmt.Errorf("create the definition of %s: %w %s", r.Kind, a.err, a.body)
	}
	if r.defs, err = publishedSchemas(ctx, b, customGroup); err != nil {
		return nil, err
	}
	group, version := splitVersion(customGroup)
	if r.schema = r.defs.of(group, version, r.Kind); r.schema == nil {
		return nil, fmt.Errorf("no schema of %s is published", r.Kind)
	}
	return r, nil
}

// publishedSchemas waits until both sides serve a new group and have published its schemas, and reads upstream's.
func publishedSchemas(ctx context.Context, b *sides, gv string) (definitions, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		defs, err := readDefinitions(ctx, b.each[0], gv)
		if err == nil {
			_, err = readDefinitions(ctx, b.each[1], gv)
		}
		if err == nil {
			return defs, nil
		}
		if sleep(ctx, 200*time.Millisecond) != nil {
			return nil, fmt.Errorf("wait for the schemas of %s: %w", gv, err)
		}
	}
}

// readDocuments reads the documents of a fixture as they are.
func readDocuments(file string) (out []map[string]any, err error) {
	data, err := fixtures.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for _, doc := range strings.Split(string(data), "\n---\n") {
		data, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		var obj map[string]any
		if err := json.Unmarshal(data, &obj); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		out = append(out, obj)
	}
	return out, nil
}
