package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// script is a row of requests that both sides get in the same order.
type script struct {
	resource string // "apps/v1/deployments"
	field    string // "spec.replicas"; "" if it's about more
	name     string // "create negative"
	steps    []step
}

// step is one request. {{names}} in path and body are variables: each side has its own values.
type step struct {
	method, path string
	header       map[string]string
	body         []byte
	capture      map[string]string // variable: where it stands in the answer, "metadata.resourceVersion"
	silent       bool              // what follows depends on it, but the answers are not compared
	protobuf     bool              // the body is sent as protobuf
	unordered    bool              // the answer is a row of JSON values: those of a watch from the start come in any order
	key          string            // not a request: the body is put under this key of the database, until the script has ended
	premise      int               // the script ends here unless this is upstream's answer
	until        string            // the request is repeated, within settled, until upstream's answer has a value there; the answers are not compared
}

// answer is what a side said.
type answer struct {
	code   int
	header http.Header
	body   []byte
	err    error
}

const userAgent = "differential/1.0"

// ask sends a step to one side.
func ask(ctx context.Context, s *side, st step, vars map[string]string) answer {
	body := expand(string(st.body), vars)
	if st.protobuf {
		if data, ok := toProtobuf([]byte(body)); ok {
			body = string(data)
		}
	}
	req, err := http.NewRequestWithContext(ctx, st.method, s.url+expand(st.path, vars), strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("User-Agent", userAgent)
	if len(st.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body, req.ContentLength = nil, 0
	}
	for k, v := range st.header {
		req.Header.Set(k, expand(v, vars))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if isProtobuf(resp.Header) {
		data = fromProtobuf(data)
	}
	return answer{code: resp.StatusCode, header: resp.Header, body: data, err: err}
}

func expand(text string, vars map[string]string) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	for k, v := range vars {
		text = strings.ReplaceAll(text, "{{"+k+"}}", v)
	}
	return text
}

// remember takes variables from an answer.
func remember(a answer, capture, vars map[string]string) {
	var obj any
	if json.Unmarshal(a.body, &obj) != nil {
		return
	}
	for name, path := range capture {
		if path == "" {
			vars[name] = string(a.body)
			continue
		}
		v := obj
		for _, p := range strings.Split(path, ".") {
			v, _ = child(v, p)
		}
		switch v := v.(type) {
		case string:
			vars[name] = v
		case float64:
			data, _ := json.Marshal(v)
			vars[name] = string(data)
		}
	}
}

// encode writes an object as a request's body.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // only maps, lists and scalars are made here
	}
	return bytes.TrimSpace(b.Bytes())
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
