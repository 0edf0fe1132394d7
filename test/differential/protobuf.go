package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

const protobufType = "application/vnd.kubernetes.protobuf"

var protobufSerializer = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)

// toProtobuf encodes an object, given as JSON, as clients do. ok is false for kinds that client-go has no types of.
func toProtobuf(data []byte) (_ []byte, ok bool) {
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		return nil, false
	}
	var out bytes.Buffer
	if err := protobufSerializer.Encode(obj, &out); err != nil {
		return nil, false
	}
	return out.Bytes(), true
}

// fromProtobuf decodes an answer to JSON, so that it's compared like others. What can't be decoded is shown as it is.
func fromProtobuf(data []byte) []byte {
	obj, _, err := protobufSerializer.Decode(data, nil, nil)
	if err != nil {
		unknown := &runtime.Unknown{}
		if _, _, unknownErr := protobufSerializer.Decode(data, nil, unknown); unknownErr != nil {
			return fmt.Appendf(nil, "%v: %q", err, data)
		}
		return fmt.Appendf(nil, "%s: %q", unknown.TypeMeta, unknown.Raw)
	}
	out, err := json.Marshal(obj)
	if err != nil {
		return fmt.Appendf(nil, "%v", err)
	}
	return out
}

// protobufs sends and asks for protobuf.
func (g *generator) protobufs() {
	r := g.resource
	obj := deepCopy(r.objects[len(r.objects)-1]).(map[string]any)
	name := objectName(obj)
	if _, ok := toProtobuf(encode(obj)); !ok {
		return
	}
	asks := map[string]string{"Accept": protobufType}
	sends := map[string]string{"Accept": protobufType, "Content-Type": protobufType}
	ask := func(name string, st ...step) {
		st[len(st)-1].header = asks
		g.about("protobuf "+name, st...)
	}
	ask("get", get(r.path(name)))
	ask("list", get(r.path(), "limit=2"))
	ask("get absent", get(r.path("absent")))
	ask("delete", step{method: http.MethodDelete, path: r.path(name) + dryRun})
	for _, o := range r.objects {
		data, _ := toProtobuf(encode(o))
		for _, validation := range []string{"", "&fieldValidation=Strict"} {
			g.creates = append(g.creates, script{resource: r.id(), name: "protobuf create " + validation, steps: []step{{method: http.MethodPost, path: r.path() + dryRun + validation, header: sends, body: data}}})
		}
		if r.Verbs.has("update") {
			g.about("protobuf update", g.get(objectName(o)), step{method: http.MethodPut, path: r.path(objectName(o)) + dryRun, header: sends, body: encode(versioned(o)), protobuf: true})
		}
	}
	for _, kind := range []string{"merge-patch", "strategic-merge-patch", "json-patch"} {
		body := `{"metadata":{"labels":{"by":"patch"}}}`
		if kind == "json-patch" {
			body = `[{"op":"add","path":"/metadata/annotations","value":{"by":"patch"}}]`
		}
		g.about("protobuf "+kind, step{method: http.MethodPatch, path: r.path(name) + dryRun, body: []byte(body), header: map[string]string{"Accept": protobufType, "Content-Type": "application/" + kind + "+json"}})
	}
	g.about("protobuf apply", step{method: http.MethodPatch, path: r.path(name) + dryRun + "&fieldManager=applier", body: encode(identity(obj)),
		header: map[string]string{"Accept": protobufType, "Content-Type": "application/apply-patch+yaml"}})
	g.brokenProtobufs(obj)
}

// brokenProtobufs sends what is no message, or no object of the kind.
func (g *generator) brokenProtobufs(obj map[string]any) {
	whole, _ := toProtobuf(encode(obj))
	other, _ := toProtobuf([]byte(`{"apiVersion":"v1","kind":"Binding","metadata":{"name":"x"},"target":{"name":"n"}}`))
	for name, body := range map[string][]byte{
		"cut": whole[:len(whole)*2/3], "prefix": whole[:4], "without prefix": whole[4:], "JSON": encode(obj), "another kind": other, "zeros": make([]byte, 64), "twice": append(whole[:len(whole):len(whole)], whole...),
	} {
		g.creates = append(g.creates, script{resource: g.resource.id(), name: "protobuf create " + name, steps: []step{{
			method: http.MethodPost, path: g.resource.path() + dryRun, body: body, header: map[string]string{"Content-Type": protobufType},
		}}})
	}
}

func isProtobuf(h http.Header) bool { return strings.HasPrefix(h.Get("Content-Type"), protobufType) }
