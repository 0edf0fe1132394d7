package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// comparedMetrics are the metrics whose labels follow from what was asked. Of histograms it's told how often they observed something.
var comparedMetrics = []string{
	"apiserver_request_total", "apiserver_request_duration_seconds_count", "apiserver_request_sli_duration_seconds_count", "apiserver_response_sizes_count",
	"apiserver_request_body_size_bytes_count", "apiserver_request_filter_duration_seconds_count", "apiserver_longrunning_requests",
	"apiserver_admission_step_admission_duration_seconds_count", "apiserver_admission_step_admission_duration_seconds_summary",
	"apiserver_admission_controller_admission_duration_seconds_count",
	"apiserver_watch_events_total", "apiserver_requested_deprecated_apis", "authentication_attempts", "authorization_attempts_total",
}

// ownRequests tells which of upstream's requests are its own.
const ownRequests = "apiserver_selfrequest_total"

// labels are a series' labels and their values.
type labels map[string]string

func (l labels) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		if l[name] != "" {
			out = append(out, fmt.Sprintf("%s=%q", name, l[name]))
		}
	}
	return "{" + strings.Join(out, ",") + "}"
}

// compareMetrics tells in which series each side has counted what both were asked. How often isn't compared: it depends on who has waited for whom.
func (f *findings) compareMetrics(ctx context.Context, b *sides) {
	var pages [2]map[string][]labels
	for i, s := range b.each {
		pages[i] = readMetrics(string(ask(ctx, s, step{method: http.MethodGet, path: "/metrics"}, nil).body))
	}
	var found []difference
	for _, name := range comparedMetrics {
		upstream, clipper := textsOf(pages[0][name]), textsOf(pages[1][name])
		add := func(text, there, here string) {
			resource := upstream[text]["resource"] + clipper[text]["resource"]
			found = append(found, difference{Resource: resource, Script: "metrics", Sort: "metric " + name, Upstream: there, Clipper: here, Request: "GET /metrics"})
		}
		for _, text := range sortedKeys(upstream) {
			if clipper[text] == nil && !slices.ContainsFunc(pages[0][ownRequests], upstream[text].mayBe) {
				add(text, text, "(absent)")
			}
		}
		for _, text := range sortedKeys(clipper) {
			if upstream[text] == nil {
				add(text, "(absent)", text)
			}
		}
	}
	f.add(1, min(len(found), 1), found)
}

// mayBe tells whether a series may be of upstream's own requests alone.
func (l labels) mayBe(own labels) bool {
	for _, name := range []string{"verb", "group", "resource", "subresource"} {
		have, ok := l[name]
		if ok && name == "verb" {
			have = strings.ToUpper(have)
			have = map[string]string{"CREATE": "POST", "UPDATE": "PUT"}[have] + have // as bodies' sizes call them
			if !strings.HasPrefix(have, own[name]) && own[name] != "APPLY" {
				return false
			}
			continue
		}
		if ok && have != own[name] {
			return false
		}
	}
	_, told := l["resource"]
	return told
}

func textsOf(list []labels) map[string]labels {
	out := map[string]labels{}
	for _, l := range list {
		out[l.String()] = l
	}
	return out
}

var (
	series = regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? ([^ \n]+)`)
	label  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// readMetrics reads the series that have counted something, and all of gauges.
func readMetrics(page string) map[string][]labels {
	out := map[string][]labels{}
	for _, m := range series.FindAllStringSubmatch(page, -1) {
		if m[3] == "0" && !strings.HasSuffix(m[1], "requests") {
			continue
		}
		l := labels{}
		for _, pair := range label.FindAllStringSubmatch(m[2], -1) {
			l[pair[1]] = pair[2]
		}
		delete(l, "code") // codes are compared answer by answer, and some may differ
		out[m[1]] = append(out[m[1]], l)
	}
	return out
}
