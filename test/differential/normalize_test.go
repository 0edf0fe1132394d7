package main

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
)

func TestWhatServersMakeUpIsEqual(t *testing.T) {
	n := normalizer{sent: `{"metadata":{"uid":"11111111-2222-3333-4444-555555555555"}}`, vars: map[string]string{"version": "4567"}, services: netip.MustParsePrefix("10.10.128.0/18")}
	for _, c := range []struct{ name, in, want string }{
		{"UIDs", "the UID 01234567-89ab-cdef-0123-456789abcdef", "the UID <uid>"},
		{"but not those that were sent", "11111111-2222-3333-4444-555555555555", "11111111-2222-3333-4444-555555555555"},
		{"versions that were read", "version 4567 of 14567", "version <version> of 14567"},
		{"but not within UIDs", "01234567-4567-cdef-0123-456789abcdef", "<uid>"},
		{"versions in quoted objects", `{\"resourceVersion\":\"42\"}`, `{\"resourceVersion\":\"<rv>\"}`},
		{"addresses of Services", "10.10.130.7 is taken", "<address> is taken"},
		{"other addresses stay", "10.1.2.3", "10.1.2.3"},
		{"old times stay", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"},
		{"the servers' own addresses", "https://127.0.0.1:33443/api", "https://<server>/api"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := n.text(c.in); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestGeneratedNamesInKeysAreEqual(t *testing.T) {
	var n normalizer
	got := n.tree(map[string]any{"f:volumes": map[string]any{`k:{"name":"kube-api-access-29qg5"}`: map[string]any{}}}, "")
	want := map[string]any{"f:volumes": map[string]any{`k:{"name":"kube-api-access-<generated>"}`: map[string]any{}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestABookmarkCountsOnce(t *testing.T) {
	event := func(sort, version string) string {
		return `{"type":"` + sort + `","object":{"metadata":{"resourceVersion":"` + version + `"}}}`
	}
	var n normalizer
	got := n.rows([]byte(event("ADDED", "1") + event("ADDED", "2") + event("BOOKMARK", "3") + event("BOOKMARK", "4")))
	if len(got) != 3 || isBookmark(got[1]) || !isBookmark(got[2]) {
		t.Errorf("two objects and two bookmarks became %q", got)
	}
}

func TestQuotedValuesDontCount(t *testing.T) {
	a := `spec: Invalid value: {"Type":"x","Rolling":null}: field is immutable (FieldValueInvalid)`
	b := `spec: Invalid value: {"type":"x"}: field is immutable (FieldValueInvalid)`
	if unquoted(a) != unquoted(b) {
		t.Errorf("%s differs from %s", unquoted(a), unquoted(b))
	}
	if c := `spec: Invalid value: "x": field is immutable (FieldValueInvalid)`; unquoted(c) != c {
		t.Errorf("a plain value is left out: %s", unquoted(c))
	}
}

func TestAFieldIsPutIntoACopy(t *testing.T) {
	text := &schema{Type: "string"}
	item := &schema{Type: "object", Properties: map[string]*schema{"name": text}, Required: []string{"name"}}
	root := &schema{Type: "object", Properties: map[string]*schema{
		"list": {Type: "array", Items: item}, "map": {Type: "object", AdditionalProperties: text}, "plain": text,
	}}
	obj := map[string]any{"list": []any{map[string]any{"name": "a"}}, "plain": "p"}
	for _, c := range []struct {
		path []string
		v    value
		want string
	}{
		{[]string{"list", "[]", "name"}, value{v: "b"}, `{"list":[{"name":"b"}],"plain":"p"}`},
		{[]string{"list", "[]"}, absent, `{"list":[],"plain":"p"}`},
		{[]string{"map", "{}"}, value{v: "v"}, `{"list":[{"name":"a"}],"map":{"k":"v"},"plain":"p"}`},
		{[]string{"plain"}, absent, `{"list":[{"name":"a"}]}`},
	} {
		f := field{path: c.path}
		t.Run(f.String(), func(t *testing.T) {
			var want any
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if got := with(obj, root, f, c.v); !reflect.DeepEqual(any(got), want) {
				t.Errorf("got %s, want %s", encode(got), c.want)
			}
		})
	}
	if obj["plain"] != "p" {
		t.Error("the object itself was changed")
	}
}
