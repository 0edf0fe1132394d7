package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
)

// prepare makes the phases of a run: what is tried before anything is stored, the storing of the fixtures, what is tried on them, and what
// makes further objects.
func prepare(ctx context.Context, o options, b *sides, resources []*resource) ([][]script, error) {
	for _, s := range b.each {
		for _, ns := range namespaces(resources) {
			if err := makeNamespace(ctx, s, ns); err != nil {
				return nil, err
			}
		}
	}
	var creates, stores, changes, contests []script
	for _, r := range resources {
		if !o.kinds.MatchString(r.id()) || len(r.objects) == 0 {
			continue
		}
		g := &generator{options: o, resource: r, random: rand.New(rand.NewPCG(o.seed, hash(r.id())))}
		g.generate()
		creates, changes, contests = append(creates, g.creates...), append(changes, g.changes...), append(contests, g.contests...)
		if r.Verbs.has("get") {
			stores = append(stores, g.storing())
		}
	}
	random := rand.New(rand.NewPCG(o.seed, 0))
	if o.kinds.MatchString("documents") {
		creates = append(creates, documents(resources, random)...)
	}
	creates, changes, contests = chosen(creates, o, random), chosen(changes, o, random), chosen(contests, o, random)
	return [][]script{creates, stores, changes, contests}, nil
}

// chosen filters scripts by name and takes a sample if there are more than asked for.
func chosen(list []script, o options, random *rand.Rand) []script {
	list = slices.DeleteFunc(list, func(s script) bool { return !o.only.MatchString(s.name) || !o.fields.MatchString(s.field) })
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if o.max > 0 && len(list) > o.max/2 {
		list = list[:o.max/2]
	}
	return list
}

// readResources reads what upstream serves, with schemas and fixtures.
func readResources(ctx context.Context, s *side) ([]*resource, error) {
	resources, err := discover(ctx, s)
	if err != nil {
		return nil, err
	}
	documents := map[string]definitions{}
	for _, r := range resources {
		defs := documents[r.GroupVersion]
		if defs == nil {
			if defs, err = readDefinitions(ctx, s, r.GroupVersion); err != nil {
				return nil, err
			}
			documents[r.GroupVersion] = defs
		}
		group, version := splitVersion(r.GroupVersion)
		r.defs, r.schema = defs, defs.of(group, version, r.Kind)
		if r.Namespaced {
			r.namespace = "differ-" + r.Name
		}
		if r.objects, err = readFixtures(r.GroupVersion, r.Name, r.Kind, r.namespace); err != nil {
			return nil, err
		}
		for _, sub := range r.subresources {
			sub.namespace, sub.defs = r.namespace, defs
			if sub.objects, err = readFixtures(r.GroupVersion, sub.Name, sub.Kind, r.namespace); err != nil {
				return nil, err
			}
			if sub.Group != "" || sub.Version != "" {
				group, version = sub.Group, sub.Version
			}
			sub.schema = defs.of(group, version, sub.Kind)
		}
	}
	return resources, nil
}

func namespaces(resources []*resource) []string {
	out := []string{"default"}
	for _, r := range resources {
		if r.Namespaced && !slices.Contains(out, r.namespace) {
			out = append(out, r.namespace)
		}
	}
	return out
}

// makeNamespace makes a namespace and what a controller would make in it.
func makeNamespace(ctx context.Context, s *side, name string) error {
	for _, st := range []step{
		{method: http.MethodPost, path: "/api/v1/namespaces", body: encode(map[string]any{"metadata": map[string]any{"name": name}})},
		{method: http.MethodPost, path: "/api/v1/namespaces/" + name + "/serviceaccounts", body: encode(map[string]any{"metadata": map[string]any{"name": "default"}})},
	} {
		if a := ask(ctx, s, st, nil); a.err != nil {
			return a.err
		}
	}
	return nil
}
