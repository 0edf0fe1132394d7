package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// report shows findings in groups.
type report struct {
	requests, differing int
	left                []difference // that no acceptance covers
	groups              []*group
	accepted            []acceptance
}

// group is the differences of one sort in one field of one kind.
type group struct {
	resource, field, sort string
	count                 int
	first                 difference
	scripts               map[string]bool
}

func newReport(accepted []acceptance, f *findings) *report {
	r := &report{requests: f.requests, differing: f.differing, accepted: accepted}
	byKey := map[string]*group{}
	for _, d := range f.all {
		if i := slices.IndexFunc(r.accepted, func(a acceptance) bool { return a.covers(d) }); i >= 0 {
			r.accepted[i].hits++
			continue
		}
		r.left = append(r.left, d)
		if slices.Contains(presentHeaders, strings.TrimPrefix(d.Sort, "header ")) {
			d.Resource, d.Field = "(any)", ""
		}
		key := d.Resource + "\x00" + d.Field + "\x00" + d.Sort
		g := byKey[key]
		if g == nil {
			g = &group{resource: d.Resource, field: d.Field, sort: d.Sort, first: d, scripts: map[string]bool{}}
			byKey[key] = g
		}
		g.count++
		g.scripts[d.Script] = true
		if d.Script < g.first.Script {
			g.first = d
		}
	}
	r.groups = slices.SortedFunc(maps.Values(byKey), func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.resource, b.resource), cmp.Compare(a.field, b.field), cmp.Compare(a.sort, b.sort))
	})
	return r
}

// writeLines writes each difference as a line of JSON, for programs.
func (r *report) writeLines(w io.Writer) error {
	e := json.NewEncoder(w)
	for _, d := range r.left {
		if err := e.Encode(d); err != nil {
			return err
		}
	}
	return nil
}

// write prints the counts and the groups, the largest first; at most limit of them, unless it is 0.
func (r *report) write(w io.Writer, limit int) {
	fmt.Fprintf(w, "%d requests, %d with answers that differ, %d groups\n", r.requests, r.differing, len(r.groups))
	for i, g := range r.groups {
		if limit > 0 && i == limit {
			fmt.Fprintf(w, "… and %d groups more\n", len(r.groups)-limit)
			break
		}
		g.write(w)
	}
	r.writeSorts(w)
	for _, a := range r.accepted {
		fmt.Fprintf(w, "accepted %6d  %s\n", a.hits, a.Reason)
	}
}

func (g *group) write(w io.Writer) {
	names := slices.Sorted(maps.Keys(g.scripts))
	fmt.Fprintf(w, "\n=== %d × %s %s: %s\n  in %s\n", g.count, g.resource, g.field, g.sort, strings.Join(names[:min(len(names), 12)], ", "))
	fmt.Fprintf(w, "  first: %s: %s\n  upstream: %s\n  clipper:  %s\n", g.first.Script, g.first.Request, indent(g.first.Upstream), indent(g.first.Clipper))
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n            ") }

func (r *report) writeSorts(w io.Writer) {
	sorts, kinds := map[string]int{}, map[string]int{}
	for _, g := range r.groups {
		sort, _, _ := strings.Cut(g.sort, ".")
		sorts[sort] += g.count
		kinds[g.resource] += g.count
	}
	fmt.Fprintln(w)
	for _, counts := range []map[string]int{sorts, kinds} {
		for _, k := range sortedKeys(counts) {
			fmt.Fprintf(w, "%6d  %s\n", counts[k], k)
		}
		fmt.Fprintln(w)
	}
}
