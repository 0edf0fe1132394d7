package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	uidForm  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	timeForm = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	// Objects are quoted in messages, some of them twice.
	tokenForm   = regexp.MustCompile(`eyJ2IjoibWV0YS5rOHMuaW8vdjEi[\w-]+`)
	ageForm     = regexp.MustCompile(`^(\d+[smhd])+$`)
	ageLine     = regexp.MustCompile(`(?m)^( *- )(\d+[smhd])+$`) // of a table in YAML
	volumeForm  = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
	versionForm = regexp.MustCompile(`(resourceVersion\\*"?: ?\\*"|ResourceVersion in record \(|ResourceVersion in object meta: )\d+`)
	portForm    = regexp.MustCompile(`([nN]odePort\\*":|nodePort:|:)3\d{4}\b`)
	addressForm = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`)
	hostForm    = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+:\d{5}\b`)
)

// normalizer replaces what differs between two servers by nature: what each made up, and what the time of day is.
type normalizer struct {
	sent     string // the request: values that it gives are compared as they are
	vars     map[string]string
	services netip.Prefix
}

func (n normalizer) text(s string) string {
	s = uidForm.ReplaceAllStringFunc(s, func(u string) string {
		if strings.Contains(n.sent, u) {
			return u
		}
		return "<uid>"
	})
	s = timeForm.ReplaceAllStringFunc(s, func(at string) string {
		t, err := time.Parse(time.RFC3339Nano, at)
		if age := time.Since(t).Abs(); err != nil || age > 48*time.Hour {
			return at
		}
		if strings.Contains(at, ".") {
			return "<now, exactly>"
		}
		return "<now>"
	})
	for name, v := range n.vars { // after what may contain a number by chance
		if len(v) > 3 && strings.Contains(s, v) && !strings.Contains(n.sent, v) {
			s = regexp.MustCompile(`\b`+regexp.QuoteMeta(v)+`\b`).ReplaceAllLiteralString(s, "<"+name+">")
		}
	}
	s = addressForm.ReplaceAllStringFunc(s, func(a string) string {
		if ip, err := netip.ParseAddr(a); err != nil || !n.services.Contains(ip) && !added.Contains(ip) || strings.Contains(n.sent, a) {
			return a
		}
		return "<address>"
	})
	s = tokenForm.ReplaceAllString(s, "<continue>")
	s = generatedVolume(s)
	s = ageLine.ReplaceAllString(s, "${1}<age>")
	s = hostForm.ReplaceAllString(s, "<server>")
	return portForm.ReplaceAllString(versionForm.ReplaceAllString(s, "${1}<rv>"), "${1}<port>")
}

func generatedVolume(s string) string {
	return volumeForm.ReplaceAllString(s, "kube-api-access-<generated>")
}

// added are the ranges of the fixtures of ServiceCIDRs: Services get their addresses from them too.
var added = netip.MustParsePrefix("192.168.76.0/23")

// tree normalizes a decoded body. path leads to v.
func (n normalizer) tree(v any, path string) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[generatedVolume(k)] = n.field(k, e, path+"."+k) // who owns which entry of a list is told in keys
		}
		return out
	case []any:
		v = slices.DeleteFunc(v, func(e any) bool { return isAddition(e, path) })
		for i, e := range v {
			v[i] = n.tree(e, path)
		}
		if strings.HasSuffix(path, ".status.resourceRules") || strings.HasSuffix(path, ".status.nonResourceRules") {
			slices.SortFunc(v, func(a, b any) int { return bytes.Compare(encode(a), encode(b)) }) // upstream's order is that of a Go map
		}
		return v
	case string:
		if strings.HasSuffix(path, ".cells") && ageForm.MatchString(v) {
			return "<age>"
		}
		return n.text(v)
	}
	return v
}

// additions are what Clipper serves beyond kube-apiserver: on other clusters an add-on brings it.
const additions = "metrics.k8s.io"

// partForm matches the paths that are named after a server's own parts, and those of the additions.
var partForm = regexp.MustCompile(`^/(healthz|livez|readyz)/|^/debug/|^/apis/metrics\.k8s\.io`)

// isAddition tells whether an entry of discovery, or of the paths that are served, says how a server is built: these differ by design.
func isAddition(e any, path string) bool {
	switch e := e.(type) {
	case string:
		return path == ".paths" && partForm.MatchString(e)
	case map[string]any:
		meta, _ := e["metadata"].(map[string]any)
		return path == ".groups" && e["name"] == additions || path == ".items" && meta["name"] == additions
	}
	return false
}

func (n normalizer) field(key string, v any, path string) any {
	text, isText := v.(string)
	switch {
	case key == "resourceVersion" && isText && strings.HasSuffix(path, "metadata.resourceVersion") && text != "" && text != "0":
		return "<rv>"
	case key == "continue" && isText && text != "":
		return "<continue>"
	case key == "nodePort" || key == "healthCheckNodePort":
		if f, ok := v.(float64); ok && f >= 30000 && !strings.Contains(n.sent, number(f)) {
			return "<port>"
		}
	case key == "managedFields":
		if list, ok := v.([]any); ok { // servers order them by the second of their writes
			slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(managerOf(a), managerOf(b)) })
		}
	case key == "token" && isText && len(text) > 100:
		return "<token>"
	case key == "name" && isText && strings.HasSuffix(path, "metadata.name") && generated(n.sent, text):
		return "<generated>"
	}
	return n.tree(v, path)
}

// managerOf tells the entries of managedFields apart.
func managerOf(entry any) string {
	m, _ := entry.(map[string]any)
	return fmt.Sprint(m["manager"], " ", m["operation"], " ", m["apiVersion"], " ", m["subresource"])
}

// rows normalizes each of several values.
func (n normalizer) rows(body []byte) (out []string) {
	d := json.NewDecoder(bytes.NewReader(body))
	for {
		var v any
		if d.Decode(&v) != nil {
			return out
		}
		row := string(encode(n.tree(v, "")))
		if isBookmark(row) && slices.Contains(out, row) {
			continue
		}
		out = append(out, row)
	}
}

// isBookmark tells whether an event is a bookmark. Those that say the same count once: how many come is chance. Upstream sends one more if its
// cache went on in the second in which the initial events were sent.
func isBookmark(event string) bool { return strings.Contains(event, `"type":"BOOKMARK"`) }

func number(f float64) string {
	data, _ := json.Marshal(f)
	return string(data)
}

var generateName = regexp.MustCompile(`"generateName":"([^"]*)"`)

// generated tells whether a name was made from the request's generateName.
func generated(sent, name string) bool {
	m := generateName.FindStringSubmatch(sent)
	return m != nil && len(name) >= 5 && strings.HasPrefix(name, m[1][:min(len(m[1]), len(name)-5)]) && !strings.Contains(sent, `"name":"`+name+`"`)
}

// causes splits a Status into the texts of its causes, so that one that is missing is told from one that differs in its place.
func causes(status map[string]any) []string {
	details, _ := status["details"].(map[string]any)
	list, _ := details["causes"].([]any)
	var out []string
	for _, c := range list {
		m, _ := c.(map[string]any)
		reason, _ := m["reason"].(string)
		message, _ := m["message"].(string)
		at, _ := m["field"].(string)
		out = append(out, at+": "+message+" ("+reason+")")
	}
	return out
}

var (
	diffForm  = regexp.MustCompile(`(?s)\n@@ .*?( \(FieldValue\w+\)|$)`)
	valueForm = regexp.MustCompile(`(?s)(Invalid|Duplicate|Unsupported) value: [{\[].*?[}\]](: |$| \()`)
)

// unquoted leaves out of a cause how a Go value is quoted in it.
func unquoted(cause string) string {
	return valueForm.ReplaceAllString(diffForm.ReplaceAllString(cause, "$1"), "$1 value: {…}$2")
}

func without(a, b []string) (out []string) {
	count := map[string]int{}
	for _, s := range b {
		count[s]++
	}
	for _, s := range a {
		if count[s]--; count[s] < 0 {
			out = append(out, s)
		}
	}
	return out
}
