package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

const (
	jsonType     = "application/json"
	yamlType     = "application/yaml"
	protobufType = "application/vnd.kubernetes.protobuf"

	mapsPath        = "/api/v1/namespaces/default/configmaps"
	podsPath        = "/api/v1/namespaces/default/pods"
	deploymentsPath = "/apis/apps/v1/namespaces/default/deployments"
	definitionsPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
)

// hostile is a request that is meant to hurt.
type hostile struct {
	name        string
	method      string // POST if empty
	path        string
	contentType string // JSON if empty
	encoding    string
	body        io.Reader
	code        int // 0 is any 4xx
}

func text(s string) io.Reader { return strings.NewReader(s) }

// nested is n levels of something around a kernel.
func nested(n int, open, kernel, end string) string {
	return strings.Repeat(open, n) + kernel + strings.Repeat(end, n)
}

// many joins n things that a format makes of numbers.
func many(n int, format, separator string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(separator)
		}
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func laughs() string {
	s := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		s += string(c) + ": &" + string(c) + " [*" + strings.Repeat(p+",*", 8) + p + "]\n"
	}
	return s
}

// spaces is a body that is never read to its end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// zipped is a small body that unpacks to n bytes.
func zipped(n int64) io.Reader {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.Copy(w, io.LimitReader(spaces{}, n)) // to memory
	_ = w.Close()
	return &b
}

// definition is a CustomResourceDefinition whose objects have the schema.
func definition(schema string) io.Reader {
	return text(`{"metadata":{"name":"foos.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"foos","kind":"Foo"},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":` + schema + `}}}}]}}`)
}

func appendVarint(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// deepProtobuf is an object in protobuf of a kind, whose field at a path of numbers holds n times the message of field number in itself.
func deepProtobuf(apiVersion, kind string, n int, number int, path ...int) io.Reader {
	// Built from the outside: the sizes are known before.
	sizes := make([]int, n+1)
	tag := appendVarint(nil, number<<3|2)
	for i := 1; i <= n; i++ {
		sizes[i] = sizes[i-1] + len(tag) + len(appendVarint(nil, sizes[i-1]))
	}
	inner := make([]byte, 0, sizes[n])
	for i := n; i > 0; i-- {
		inner = append(append(inner, tag...), appendVarint(nil, sizes[i-1])...)
	}
	for _, number := range slices.Backward(path) {
		inner = append(append(appendVarint(nil, number<<3|2), appendVarint(nil, len(inner))...), inner...)
	}
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: inner}
	raw, err := u.Marshal()
	if err != nil {
		panic(err) // strings and bytes always encode
	}
	return bytes.NewReader(append([]byte("k8s\x00"), raw...))
}

func requests() []hostile {
	const dry = "?dryRun=All"
	deployment := deploymentsPath + "/target" + dry
	return []hostile{
		{name: "a body of 1 GB", path: mapsPath, body: io.LimitReader(spaces{}, 1<<30), code: 413},
		{name: "a body of 1 GB in protobuf", path: mapsPath, contentType: protobufType, body: io.LimitReader(spaces{}, 1<<30), code: 413},
		{name: "a patch of 1 GB", method: "PATCH", path: deployment, contentType: string(types.StrategicMergePatchType), body: io.LimitReader(spaces{}, 1<<30), code: 413},
		{name: "a packed body of 1 GB", path: mapsPath, encoding: "gzip", body: zipped(1 << 30)},
		{name: "a map of a million keys", path: mapsPath, body: text(`{"metadata":{"name":"x"},"data":{` + many(1_000_000, `"k%d":""`, ",") + `}}`), code: 413},
		{name: "a map of as many keys as fit", path: mapsPath + dry, body: text(`{"metadata":{"name":"x"},"data":{` + many(240_000, `"%d":""`, ",") + `}}`)},
		{name: "as many labels as fit", path: mapsPath + dry, body: text(`{"metadata":{"name":"x","labels":{` + many(240_000, `"%d":""`, ",") + `}}}`)},
		{name: "as many bad annotations as fit", path: mapsPath + dry, body: text(`{"metadata":{"name":"x","annotations":{` + many(200_000, `"!%d":""`, ",") + `}}}`), code: 422},
		{name: "as many duplicate fields as fit", path: mapsPath + dry + "&fieldValidation=Strict", body: text(`{"metadata":{"name":"x"},` + many(300_000, `"a":%d`, ",") + `}`)},
		{name: "a billion laughs", path: mapsPath, contentType: yamlType, body: text(laughs()), code: 400},
		{name: "a billion laughs to apply", method: "PATCH", path: mapsPath + "/x" + dry + "&fieldManager=m", contentType: string(types.ApplyYAMLPatchType), body: text(laughs())},
		{name: "lists in lists", path: mapsPath, body: text(nested(1_000_000, "[", "", "]")), code: 400},
		{name: "maps in maps", path: mapsPath, body: text(nested(500_000, `{"a":`, "1", "}")), code: 400},
		{name: "unknown maps in maps", path: mapsPath + dry, body: text(`{"metadata":{"name":"x"},"x":` + nested(300_000, `{"a":`, "1", "}") + "}")},
		{name: "lists in lists, as YAML", path: mapsPath, contentType: yamlType, body: text(nested(1_000_000, "[", "", "]")), code: 400},
		{name: "maps in maps, as YAML", path: mapsPath, contentType: yamlType, body: text(nested(500_000, `{a: `, "1", "}")), code: 400},
		{name: "blocks in blocks, as YAML", path: mapsPath, contentType: yamlType, body: text(strings.Repeat("- ", 1_000_000)), code: 400},
		{name: "lists in lists to apply", method: "PATCH", path: mapsPath + "/x" + dry + "&fieldManager=m", contentType: string(types.ApplyYAMLPatchType), body: text(nested(1_000_000, "[", "", "]"))},
		{name: "maps in maps to merge", method: "PATCH", path: deployment, contentType: string(types.MergePatchType), body: text(nested(400_000, `{"a":`, "1", "}"))},
		{name: "maps in maps to merge strategically", method: "PATCH", path: deployment, contentType: string(types.StrategicMergePatchType), body: text(nested(400_000, `{"a":`, "1", "}"))},
		{name: "messages in messages", path: definitionsPath, contentType: protobufType, body: deepProtobuf("apiextensions.k8s.io/v1", "CustomResourceDefinition", 450_000, 27, 2, 7, 4, 1)},
		{name: "many operations", method: "PATCH", path: deployment, contentType: string(types.JSONPatchType), body: text("[" + many(90_000, `{"op":"test","path":"/x%d"}`, ",") + "]"), code: 413},
		{name: "copies of copies", method: "PATCH", path: deployment, contentType: string(types.JSONPatchType), body: text("[" + many(40, `{"op":"copy","from":"/metadata","path":"/metadata/x%d"}`, ",") + "]"), code: 422},
		{name: "a long list to merge by key", method: "PATCH", path: deployment, contentType: string(types.StrategicMergePatchType), body: text(`{"spec":{"template":{"spec":{"containers":[` + many(150_000, `{"name":"%d"}`, ",") + `]}}}}`)},
		{name: "a long list to apply", method: "PATCH", path: deployment + "&fieldManager=m", contentType: string(types.ApplyYAMLPatchType), body: text(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"target"},"spec":{"template":{"spec":{"containers":[` + many(150_000, `{"name":"%d"}`, ",") + `]}}}}`)},
		{name: "a pattern that repeats repetitions", path: definitionsPath + dry, body: definition(`{"type":"string","pattern":"(((((a{100}){100}){100}){100}){100})"}`), code: 422},
		{name: "a deep schema", path: definitionsPath + dry, body: definition(nested(2_000, `{"type":"object","properties":{"a":`, `{"type":"string"}`, "}}"))},
		{name: "a rule that costs too much", path: definitionsPath + dry, body: definition(`{"type":"array","items":{"type":"array","items":{"type":"string","x-kubernetes-validations":[{"rule":"self.contains('x')"}]}}}`), code: 422},
		{name: "a deep rule", path: definitionsPath + dry, body: definition(`{"type":"object","x-kubernetes-validations":[{"rule":"` + nested(200_000, "(", "true", ")") + `"}]}`), code: 422},
		{name: "rules in rules", path: definitionsPath + dry, body: definition(`{"type":"object","x-kubernetes-validations":[{"rule":"` + nested(9, `[1,2,3,4,5,6,7,8,9,10].all(x, `, "true", ")") + `"}]}`)},
		{name: "a selector of many values", method: "GET", path: mapsPath + "?labelSelector=a%20in%20(" + many(80_000, "v%d", ",") + ")"},
		{name: "a selector of many terms", method: "GET", path: mapsPath + "?labelSelector=" + many(80_000, "k%d", ",")},
		{name: "a selector of many fields", method: "GET", path: mapsPath + "?fieldSelector=" + many(20_000, "metadata.name!=v%d", ",")},
		{name: "a selector of long values in a body", path: deploymentsPath + dry, body: text(`{"metadata":{"name":"x"},"spec":{"selector":{"matchExpressions":[` + many(50_000, `{"key":"k%d","operator":"Exists"}`, ",") + `]},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`)},
		{name: "many parameters", method: "GET", path: mapsPath + "?" + many(100_000, "p%d", "&")},
		{name: "the same parameter many times", method: "GET", path: mapsPath + "?" + many(60_000, "limit=%d", "&")},
		{name: "a broken token", method: "GET", path: mapsPath + "?continue=" + strings.Repeat("A", 500_000), code: 400},
		{name: "a climbing name", path: mapsPath, body: text(`{"metadata":{"name":"../../secrets/x"}}`), code: 422},
		{name: "a climbing path", method: "GET", path: "/api/v1/namespaces/default/configmaps/%2e%2e%2f%2e%2e%2fsecrets"},
		{name: "a climbing namespace", method: "GET", path: "/api/v1/namespaces/..%2f..%2fx/configmaps/y"},
		{name: "a name with an end", method: "GET", path: mapsPath + "/a%00b", code: 404},
		{name: "a climbing log", method: "GET", path: "/logs/..%2f..%2f..%2fetc%2fpasswd", code: 404},
		{name: "a long path", method: "GET", path: "/api/v1/namespaces/default/configmaps/" + strings.Repeat("a/", 200_000), code: 404},
	}
}

func TestHostileRequestsAreRefusedAndNobodyElseNotices(t *testing.T) {
	config, err := api.config()
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	c := api.client(t)
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), target(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slowest := make(chan time.Duration, 1)
	group.Go(func() {
		var longest time.Duration
		for ctx.Err() == nil {
			began := time.Now()
			one, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err := c.CoreV1().Namespaces().Get(one, "default", metav1.GetOptions{})
			cancel()
			if err != nil {
				t.Errorf("another client: %v", err)
			}
			longest = max(longest, time.Since(began))
			time.Sleep(5 * time.Millisecond)
		}
		slowest <- longest
	})
	for _, h := range requests() {
		t.Run(strings.ReplaceAll(h.name, " ", "_"), func(t *testing.T) {
			began := time.Now()
			code, answer, err := h.send(t.Context(), transport, config.Host)
			took := time.Since(began)
			if err != nil {
				t.Fatal(err)
			}
			if h.code != 0 && code != h.code || code >= 500 {
				t.Errorf("answered with %d: %.300s", code, answer)
			}
			t.Logf("%d after %s, %d bytes: %.200s", code, took.Round(time.Millisecond), len(answer), answer)
		})
	}
	cancel()
	group.Wait()
	t.Logf("the slowest request of another client took %s", <-slowest)
}

// target is what patches are sent to.
func target() *appsv1.Deployment {
	labels := map[string]string{"app": "target"}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "target"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
	}}
}

func (h hostile) send(ctx context.Context, transport http.RoundTripper, host string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	method := h.method
	if method == "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, host+h.path, h.body)
	if err != nil {
		return 0, nil, err
	}
	if h.body != nil {
		r.Header.Set("Content-Type", jsonType)
	}
	if h.contentType != "" {
		r.Header.Set("Content-Type", h.contentType)
	}
	if h.encoding != "" {
		r.Header.Set("Content-Encoding", h.encoding)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}
