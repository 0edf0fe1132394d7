package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// verbs tries what is about more than one field, on objects of its own: "verbs-1" to "verbs-3".
func (g *generator) verbs() {
	r := g.resource
	if !r.Verbs.has("list") || !r.Verbs.has("create") {
		return
	}
	g.formats()
	g.lists()
	g.selectors()
	g.bodies()
	if r.Verbs.has("delete") {
		g.deletions()
	}
}

// about adds a script on the resource as a whole.
func (g *generator) about(name string, steps ...step) {
	g.changes = append(g.changes, script{resource: g.resource.id(), name: name, steps: steps})
}

func get(path string, query ...string) step {
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	return step{method: http.MethodGet, path: path}
}

func withHeader(st step, header, value string) step {
	st.header = map[string]string{header: value}
	return st
}

// formats asks for an object and for the list in every form that exists and in some that don't.
func (g *generator) formats() {
	r := g.resource
	name := objectName(g.resource.objects[len(g.resource.objects)-1])
	const table, partial = ";as=Table;v=v1;g=meta.k8s.io", ";as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
	for _, accept := range []string{
		"application/json", "application/yaml", "application/*", "*/*", "text/html", "application/xml", "application/json;pretty=1", "nonsense", "application/json;q=0.5, application/yaml",
		"application/json" + table, "application/json" + partial, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
		"application/json;as=Table;v=v2;g=meta.k8s.io", "application/json;as=Chair;v=v1;g=meta.k8s.io", "application/json" + table + ",application/json", "application/yaml" + table,
	} {
		g.about("accept "+accept, withHeader(get(r.path(name)), "Accept", accept), withHeader(get(r.path(), "limit=1"), "Accept", accept))
	}
	for _, query := range []string{"includeObject=None", "includeObject=Object", "includeObject=Metadata", "includeObject=All", "limit=1&includeObject=None"} {
		g.about("table "+query, withHeader(get(r.path(), query), "Accept", "application/json"+table))
		for _, obj := range r.objects {
			g.about("table of one "+query, withHeader(get(r.path(objectName(obj)), query), "Accept", "application/json"+table))
		}
	}
	for _, path := range []string{r.path("absent"), r.path(name, "absent"), r.path("bad name!"), r.path(name) + "/", r.path(name) + "?resourceVersion=abc", r.path(name) + "?resourceVersion=0",
		r.path(name) + "?resourceVersion=999999999", r.path(name) + "?pretty=true", r.path(name) + "?export=true"} {
		if strings.Contains(path, "999999999") {
			continue // answered after seconds only
		}
		g.about("get "+strings.TrimPrefix(path, r.path()), get(strings.ReplaceAll(path, " ", "%20")))
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "PROPFIND", http.MethodOptions, http.MethodHead} {
		if method != http.MethodDelete {
			g.about("method "+method, step{method: method, path: r.path(name)}, step{method: method, path: r.path()})
		}
	}
}

// lists tries the options of lists and watches with each other.
func (g *generator) lists() {
	r := g.resource
	current := step{method: http.MethodGet, path: r.path() + "?limit=1", capture: map[string]string{"version": "metadata.resourceVersion", "token": "metadata.continue"}, silent: true}
	for _, version := range []string{"", "0", "1", "{{version}}", "abc", "-1"} {
		for _, match := range []string{"", "Exact", "NotOlderThan", "Other"} {
			for _, rest := range []string{"", "limit=1", "limit=0", "limit=-1", "continue={{token}}", "continue=abc", "sendInitialEvents=true", "timeoutSeconds=1", "timeoutSeconds=-1"} {
				if version == "1" && g.random.IntN(4) > 0 || g.random.IntN(3) > 0 && r.id() != "v1/configmaps" {
					continue
				}
				query := []string{}
				if version != "" {
					query = append(query, "resourceVersion="+version)
				}
				if match != "" {
					query = append(query, "resourceVersionMatch="+match)
				}
				if rest != "" {
					query = append(query, rest)
				}
				g.about("list "+strings.Join(query, "&"), current, get(r.path(), query...))
			}
		}
	}
	g.watches(current)
	for _, query := range []string{"resourceVersion=0", "", "resourceVersion=abc", "resourceVersion={{version}}", "resourceVersion=1", "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
		"sendInitialEvents=true", "sendInitialEvents=false", "resourceVersionMatch=NotOlderThan", "resourceVersionMatch=Exact&sendInitialEvents=true", "limit=1", "continue=abc", "fieldSelector=metadata.name%3Drich", "labelSelector=nothing"} {
		g.about("watch "+query, current, step{method: http.MethodGet, path: r.path() + "?watch=true&" + briefly + query, unordered: true})
	}
}

// watches tries where a watch begins with what it asks to begin with.
func (g *generator) watches(current step) {
	r := g.resource
	for _, version := range []string{"", "resourceVersion=0", "resourceVersion={{version}}", "resourceVersion=-1"} {
		for _, match := range []string{"", "resourceVersionMatch=NotOlderThan", "resourceVersionMatch=Exact", "resourceVersionMatch=Other"} {
			for _, initial := range []string{"", "sendInitialEvents=true", "sendInitialEvents=false", "sendInitialEvents=maybe"} {
				if g.random.IntN(8) > 0 && r.id() != "v1/configmaps" {
					continue
				}
				query := strings.Join([]string{version, match, initial, pick(g.random, []string{"", "allowWatchBookmarks=true"})}, "&")
				g.about("watch from "+query, current, step{method: http.MethodGet, path: r.path() + "?watch=true&" + briefly + query, unordered: true})
			}
		}
	}
}

// selectors tries the labels that fields are selected by, good and bad.
func (g *generator) selectors() {
	r := g.resource
	for _, label := range []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "status.phase", "spec.unschedulable", "type", "reason", "involvedObject.kind", "involvedObject.name",
		"regarding.kind", "spec.signerName", "status.successful", "status.replicas", "spec.type", "spec.clusterIP", "source", "reportingComponent", "reportingController", "spec.driver", "spec.restartPolicy", "spec.hostNetwork",
		"spec.podIP", "status.podIP", "status.nominatedNodeName", "spec.serviceAccountName", "spec.schedulerName", "spec.group", "nothing.at.all"} {
		for _, op := range []string{"=x", "!=x", "=", "==differ-rich"} {
			if op != "=x" && g.random.IntN(3) > 0 {
				continue
			}
			g.about("field selector "+label+op, get(r.path(), "fieldSelector="+url.QueryEscape(label+op)))
		}
	}
	for _, text := range []string{"=", "a", "a=b,", "a=b,c", ",", "metadata.name=a=b", "metadata.name in (a)", "metadata.name=a\\,b", "metadata.name=rich,metadata.namespace=" + r.namespace} {
		g.about("field selector "+text, get(r.path(), "fieldSelector="+url.QueryEscape(text)))
	}
	for _, text := range []string{"app", "!app", "app=web", "app==web", "app!=web", "app in (web,api)", "app notin (web)", "app in", "app in ()", "a=b=c", "=x", "a>1", "a<x", "bad key!=x", "app=Bad_Value!", ",", "app,"} {
		g.about("label selector "+text, get(r.path(), "labelSelector="+url.QueryEscape(text)))
	}
}

// bodies sends what is no object, or one in another form than announced.
func (g *generator) bodies() {
	r := g.resource
	good := string(encode(g.resource.objects[0]))
	for _, body := range []string{"", "{}", "[]", "null", `"text"`, "{", "kind: [", `{"kind":"Other","apiVersion":"v1"}`, `{"apiVersion":"other/v1","kind":"` + r.Kind + `"}`, `{"kind":"` + r.Kind + `"}`,
		strings.Replace(good, "{", `{"notThere":1,"notThere":2,`, 1), strings.Replace(good, "{", `{"metadata":{"name":"twice"},`, 1), good + good} {
		for _, contentType := range []string{"application/json", "application/yaml", "text/plain", "application/vnd.kubernetes.protobuf", "application/json;charset=utf-8", "nonsense", "application/merge-patch+json"} {
			if contentType != "application/json" && g.random.IntN(3) > 0 {
				continue
			}
			g.about(fmt.Sprintf("create %.40q as %s", body, contentType), step{method: http.MethodPost, path: r.path() + dryRun, body: []byte(body), header: map[string]string{"Content-Type": contentType}})
		}
	}
	for _, query := range []string{"dryRun=Some", "dryRun=All&dryRun=All", "dryRun=", "fieldValidation=Maybe", "fieldValidation=strict", "fieldManager=" + strings.Repeat("m", 200), "fieldManager=%00", "pretty=true"} {
		if query == "dryRun=" || !strings.HasPrefix(query, "dryRun") {
			query = "dryRun=All&" + query
		}
		body := strings.Replace(good, objectName(g.resource.objects[0]), "other", 1)
		g.about("create with "+query, step{method: http.MethodPost, path: r.path() + "?" + query, body: []byte(body)})
		name := objectName(g.resource.objects[0])
		g.about("update with "+query, g.get(name), step{method: http.MethodPut, path: r.path(name) + "?" + query, body: encode(versioned(g.resource.objects[0]))})
		g.about("apply with "+query, step{method: http.MethodPatch, path: r.path(name) + "?" + query, body: encode(identity(g.resource.objects[0])), header: map[string]string{"Content-Type": "application/apply-patch+yaml"}})
		g.about("patch with "+query, step{method: http.MethodPatch, path: r.path(name) + "?" + query, body: []byte("{}"), header: map[string]string{"Content-Type": "application/merge-patch+json"}})
	}
}

// deletions deletes with all sorts of options, dry.
func (g *generator) deletions() {
	r := g.resource
	name := objectName(g.resource.objects[len(g.resource.objects)-1])
	for _, body := range []string{"", "{}", `{"kind":"DeleteOptions","apiVersion":"v1","dryRun":["All"]}`, `{"gracePeriodSeconds":0}`, `{"gracePeriodSeconds":-1}`, `{"propagationPolicy":"Foreground"}`, `{"propagationPolicy":"Orphan"}`,
		`{"propagationPolicy":"Other"}`, `{"orphanDependents":true}`, `{"orphanDependents":true,"propagationPolicy":"Orphan"}`, `{"preconditions":{"uid":"abc"}}`, `{"preconditions":{"resourceVersion":"1"}}`,
		`{"preconditions":{"uid":"{{uid}}","resourceVersion":"{{version}}"}}`, `{"kind":"Other"}`, `[]`, `{"unknown":1}`, `{"dryRun":["Some"]}`} {
		if text, isObject := strings.CutPrefix(body, "{"); isObject && !strings.Contains(body, "dryRun") {
			body = strings.Replace(`{"dryRun":["All"],`+text, ",}", "}", 1) // what is in a body replaces what is in the query
		}
		g.about("delete "+body, g.get(name), step{method: http.MethodDelete, path: r.path(name) + dryRun, body: []byte(body)})
	}
	for _, query := range []string{"gracePeriodSeconds=0", "gracePeriodSeconds=x", "propagationPolicy=Background", "propagationPolicy=Other", "orphanDependents=true", "orphanDependents=maybe"} {
		g.about("delete "+query, step{method: http.MethodDelete, path: r.path(name) + dryRun + "&" + query})
	}
	g.about("delete absent", step{method: http.MethodDelete, path: r.path("absent")})
	if r.Verbs.has("deletecollection") && r.Namespaced {
		for _, query := range []string{"", "labelSelector=none%3Dsuch", "fieldSelector=metadata.name%3Drich", "fieldSelector=nothing%3Dx", "limit=1", "resourceVersion=0", "propagationPolicy=Orphan"} {
			g.about("deletecollection "+query, step{method: http.MethodDelete, path: r.path() + dryRun + "&" + query})
		}
	}
}
