package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// difference is one way in which two answers differ.
type difference struct {
	Resource, Field, Script string
	Sort                    string // "status 201≠422", "causes", "header Warning", "body .spec.x"
	Upstream, Clipper       string
	Request                 string
}

// comparedHeaders are those whose values must be equal. Others only have to be there on both sides.
var (
	comparedHeaders = []string{"Content-Type", "Retry-After", "Allow", "Location", "Cache-Control", "Vary", "Www-Authenticate", "X-Content-Type-Options"}
	presentHeaders  = []string{"Audit-Id", "X-Kubernetes-Pf-Flowschema-Uid", "X-Kubernetes-Pf-Prioritylevel-Uid", "Etag", "Last-Modified"}
)

// compare tells how the answers to a step differ.
func compare(b *sides, s script, st step, vars [2]map[string]string, answers [2]answer) []difference {
	c := comparison{script: s, step: st}
	for i, a := range answers {
		if a.err != nil {
			answers[i] = answer{header: http.Header{}, body: []byte("error: " + a.err.Error())}
		}
		c.norm[i] = normalizer{sent: string(st.body) + st.path, vars: vars[i], services: b.services}
	}
	u, k := answers[0], answers[1]
	if u.code != k.code {
		c.add(fmt.Sprintf("status %d≠%d", u.code, k.code), c.norm[0].text(short(u.body)), c.norm[1].text(short(k.body)))
		return c.found
	}
	c.headers(u.header, k.header)
	if st.unordered && u.code == http.StatusOK {
		c.rows(u.body, k.body)
		return c.found
	}
	c.bodies(u.body, k.body)
	return c.found
}

type comparison struct {
	script script
	step   step
	norm   [2]normalizer
	found  []difference
}

func (c *comparison) add(sort, upstream, clipper string) {
	body := string(c.step.body)
	if len(body) > 3000 {
		body = body[:3000] + "…"
	}
	c.found = append(c.found, difference{
		Resource: c.script.resource, Field: c.script.field, Script: c.script.name, Sort: sort, Upstream: upstream, Clipper: clipper,
		Request: strings.TrimSpace(fmt.Sprintf("%s %s %s\n    %s", c.step.method, c.step.path, headerText(c.step.header), body)),
	})
}

func headerText(h map[string]string) string {
	var out []string
	for _, k := range sortedKeys(h) {
		out = append(out, k+": "+h[k])
	}
	return strings.Join(out, ", ")
}

func (c *comparison) headers(u, k http.Header) {
	for _, name := range comparedHeaders {
		if a, b := c.norm[0].text(strings.Join(u.Values(name), ", ")), c.norm[1].text(strings.Join(k.Values(name), ", ")); a != b {
			c.add("header "+name, a, b)
		}
	}
	for _, name := range presentHeaders {
		if a, b := u.Get(name) != "", k.Get(name) != ""; a != b {
			c.add("header "+name, "there: "+strconv.FormatBool(a), "there: "+strconv.FormatBool(b))
		}
	}
	a, b := c.warnings(0, u), c.warnings(1, k)
	missing, extra := without(a, b), without(b, a)
	for i := range max(len(missing), len(extra)) {
		c.add("header Warning", at(missing, i), at(extra, i))
	}
	if len(missing)+len(extra) == 0 && !slices.Equal(a, b) {
		c.add("order of warnings", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

func (c *comparison) warnings(i int, h http.Header) (out []string) {
	for _, w := range h.Values("Warning") {
		out = append(out, c.norm[i].text(w))
	}
	return out
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(none)"
}

func (c *comparison) bodies(u, k []byte) {
	var a, b any
	errA, errB := json.Unmarshal(u, &a), json.Unmarshal(k, &b)
	if errA != nil || errB != nil {
		if x, y := c.norm[0].text(string(u)), c.norm[1].text(string(k)); x != y {
			c.add("body", short([]byte(x)), short([]byte(y)))
		}
		return
	}
	a, b = c.norm[0].tree(a, ""), c.norm[1].tree(b, "")
	if x, y := asStatus(a), asStatus(b); x != nil && y != nil {
		c.statuses(x, y)
		return
	}
	c.trees(a, b, "")
}

// rows compares what watches said.
func (c *comparison) rows(u, k []byte) {
	a, b := c.norm[0].rows(u), c.norm[1].rows(k)
	missing, extra := without(a, b), without(b, a)
	for i := range max(len(missing), len(extra)) {
		c.add("event", at(missing, i), at(extra, i))
	}
}

func asStatus(v any) map[string]any {
	m, _ := v.(map[string]any)
	if m["kind"] == "Status" && m["status"] == "Failure" {
		return m
	}
	return nil
}

func (c *comparison) statuses(a, b map[string]any) {
	x, y := causes(a), causes(b)
	missing, extra := without(x, y), without(y, x)
	if len(missing)+len(extra) > 0 {
		sort := "causes"
		if slices.EqualFunc(missing, extra, func(a, b string) bool { return unquoted(a) == unquoted(b) }) {
			sort = "quoted values"
		}
		c.add(sort, strings.Join(missing, "\n"), strings.Join(extra, "\n"))
		return
	}
	if !slices.Equal(x, y) {
		c.add("order of causes", strings.Join(x, "\n"), strings.Join(y, "\n"))
		return
	}
	c.trees(a, b, "")
}

// trees reports where two decoded bodies differ.
func (c *comparison) trees(a, b any, path string) {
	if reflect.DeepEqual(a, b) || len(c.found) > 30 {
		return
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			break
		}
		for _, k := range sortedKeys(a) {
			if _, ok := b[k]; !ok {
				c.add("body "+path+"."+k, text(a[k]), "(absent)")
				continue
			}
			c.trees(a[k], b[k], path+"."+k)
		}
		for _, k := range sortedKeys(b) {
			if _, ok := a[k]; !ok {
				c.add("body "+path+"."+k, "(absent)", text(b[k]))
			}
		}
		return
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			break
		}
		for i := range a {
			c.trees(a[i], b[i], path+"[]")
		}
		return
	}
	c.add("body "+path, text(a), text(b))
}

func text(v any) string { return short(encode(v)) }

func short(data []byte) string {
	if len(data) > 2000 {
		return string(data[:2000]) + "…"
	}
	return strings.TrimSpace(string(data))
}
