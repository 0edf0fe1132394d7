package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// documented, with which -record writes upstreamMetrics, is the list that upstream's metrics are documented from, and outputs are what its
// components served, in files by their names: the list alone doesn't know the types of metrics with code of their own.
var (
	documented = flag.String("documented", "", "test/instrumentation/documentation/documentation-list.yaml of Kubernetes: rewrite testdata/metrics.tsv from it")
	outputs    = flag.String("outputs", "", "with -documented: folder of what upstream's components serve at /metrics, each in a file by its name")
)

const (
	upstreamMetrics = "testdata/metrics.tsv"
	unserved        = "testdata/metrics-unserved.yaml"
)

// components are those whose metrics are compared.
var components = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// upstreamMetric is one that Kubernetes serves.
type upstreamMetric struct {
	name, kind, stability, help string
	labels                      []string
	buckets                     []float64
}

// TestMetricsAreUpstreams holds everything that is registered, and what of it a server shows after some requests, against what upstream documents.
func TestMetricsAreUpstreams(t *testing.T) {
	if *documented != "" {
		record(t)
	}
	if testing.Short() {
		t.Skip("a server needs root")
	}
	s, admin := serveForTest(t, "metrics-test")
	exercise(t, admin)
	shown := scrape(t, admin)
	registered := descriptions(s.metrics)
	for name, f := range shown { // what is described only as it is collected
		if _, ok := registered[name]; !ok {
			registered[name] = description{help: f.GetHelp(), labels: labelsOf(f)}
		}
	}
	without := readUnserved(t)
	var missing, served, left int
	for _, m := range readUpstream(t) {
		got, ok := registered[m.name]
		reason, listed := without[m.name]
		switch {
		case !ok && !listed:
			t.Errorf("%s is not served, and %s gives no reason", m.name, unserved)
			missing++
			continue
		case ok && listed:
			t.Errorf("%s is served: what %s says is not so: %s", m.name, unserved, reason)
		case !ok:
			left++
			continue
		}
		served++
		delete(without, m.name)
		m.check(t, got, shown[m.name])
	}
	t.Logf("%d are served, %d are not with a reason, %d without", served, left, missing)
}

// check compares what is told about a metric, and its series if it has some.
func (m *upstreamMetric) check(t *testing.T, got description, f *dto.MetricFamily) {
	t.Helper()
	if !slices.Equal(got.labels, m.labels) {
		t.Errorf("%s has labels %v, not %v", m.name, got.labels, m.labels)
	}
	if f == nil {
		if got.help != m.help {
			t.Errorf("%s has help %q, not %q", m.name, got.help, m.help)
		}
		return
	}
	want := m.help
	switch m.stability {
	case "":
	case "EXPERIMENTAL":
		want = m.stability + ": " + want
	default:
		want = "[" + m.stability + "] " + want
	}
	if f.GetHelp() != want {
		t.Errorf("%s is shown with help %q, not %q", m.name, f.GetHelp(), want)
	}
	if kind := strings.ToLower(f.GetType().String()); m.kind != "" && kind != m.kind {
		t.Errorf("%s is a %s, not a %s", m.name, kind, m.kind)
	}
	if h := f.GetMetric()[0].GetHistogram(); h != nil {
		var bounds []float64
		for _, b := range h.GetBucket() {
			if v := b.GetUpperBound(); v <= 1e300 {
				bounds = append(bounds, v)
			}
		}
		if !slices.EqualFunc(bounds, m.buckets, func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }) {
			t.Errorf("%s has buckets %v, not %v", m.name, bounds, m.buckets)
		}
	}
}

// description is what a collector tells about a metric.
type description struct {
	help   string
	labels []string
}

var descriptionText = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// descriptions returns all that is registered, whether it has series or not.
func descriptions(r *prometheus.Registry) map[string]description {
	all := make(chan *prometheus.Desc)
	go func() {
		defer close(all)
		r.Describe(all)
	}()
	out := map[string]description{}
	for d := range all {
		m := descriptionText.FindStringSubmatch(d.String())
		if m == nil {
			continue
		}
		name, _ := strconv.Unquote(m[1])
		help, _ := strconv.Unquote(m[2])
		var labels []string
		for _, fixed := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, fixed[1])
		}
		if m[4] != "" {
			labels = append(labels, strings.Split(m[4], ",")...)
		}
		slices.Sort(labels)
		out[name] = description{help, labels}
	}
	return out
}

func labelsOf(f *dto.MetricFamily) []string {
	seen := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			seen[l.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// serveForTest runs a control plane in this process until the test ends.
func serveForTest(t *testing.T, name string) (*server, *rest.Config) {
	t.Helper()
	l, err := NewLayout(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), l, true); err != nil {
		t.Fatal(err)
	}
	o := &ServerOptions{Layout: l, Logger: slog.New(slog.DiscardHandler), Progress: &Progress{}}
	o.AddFlags(pflag.NewFlagSet("server", pflag.ContinueOnError))
	o.NoNode = true
	o.AuthenticationConfig = writeConfig(t, "authn.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n")
	o.AuthorizationConfig = writeConfig(t, "authz.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{type: Node, name: node}, {type: RBAC, name: rbac}]\n")
	o.EncryptionConfig = writeConfig(t, "encryption.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"+
		"resources: [{resources: [secrets], providers: [{secretbox: {keys: [{name: a, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}}]}]\n")
	o.FollowEncryption = true
	if err := claim(l); err != nil {
		t.Fatal(err)
	}
	ip, err := o.complete(&o.Layout, 1)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(l.APIPort))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{opts: o, nodeIP: ip, listener: listener, metrics: prometheus.NewRegistry()}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		err := s.open(ctx)
		if err == nil {
			err = s.run(ctx)
		}
		done <- s.close(err)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := Down(context.WithoutCancel(t.Context()), l, true); err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-done:
			done <- nil
			t.Fatalf("the server ended: %v", err)
		default:
		}
		config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
		if err == nil {
			config.QPS = -1
			if _, err = kubernetes.NewForConfigOrDie(config).RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
				return s, config
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the server is not ready: %v", err)
		}
	}
}

func writeConfig(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// exercise makes requests of many sorts. What they are answered is for other tests.
func exercise(t *testing.T, admin *rest.Config) {
	t.Helper()
	ctx := t.Context()
	c := kubernetes.NewForConfigOrDie(admin)
	maps := c.CoreV1().ConfigMaps("default")
	for _, name := range []string{"a", "b"} {
		if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort} {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", i)}, Spec: corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Port: 80}}}}
		if _, err := c.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []metav1.ListOptions{{}, {ResourceVersion: "0"}, {LabelSelector: "a=b"}, {Limit: 1}} {
		if _, err := maps.List(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	yes := true
	w, err := maps.Watch(ctx, metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	<-w.ResultChan()
	w.Stop()
	if _, err := c.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "x"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	other := rest.CopyConfig(admin)
	other.Impersonate = rest.ImpersonationConfig{UserName: "somebody"}
	if _, err := kubernetes.NewForConfigOrDie(other).CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{}); err == nil {
		t.Fatal("anybody may list")
	}
	if err := maps.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func scrape(t *testing.T, admin *rest.Config) map[string]*dto.MetricFamily {
	t.Helper()
	data, err := kubernetes.NewForConfigOrDie(admin).RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return parseMetrics(t, data)
}

func parseMetrics(t *testing.T, data []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	out, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readUpstream(t *testing.T) []*upstreamMetric {
	t.Helper()
	data, err := os.ReadFile(upstreamMetrics)
	if err != nil {
		t.Fatal(err)
	}
	var out []*upstreamMetric
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 6 {
			t.Fatalf("%s: %q", upstreamMetrics, line)
		}
		m := &upstreamMetric{name: f[0], kind: f[1], stability: f[2], help: f[5], labels: split(f[3])}
		for _, b := range split(f[4]) {
			v, err := strconv.ParseFloat(b, 64)
			if err != nil {
				t.Fatal(err)
			}
			m.buckets = append(m.buckets, v)
		}
		out = append(out, m)
	}
	return out
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// readUnserved returns the reasons why metrics are not served.
func readUnserved(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(unserved)
	if err != nil {
		t.Fatal(err)
	}
	var groups []struct {
		Reason  string
		Metrics []string
	}
	if err := yaml.UnmarshalStrict(data, &groups); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, g := range groups {
		for _, name := range g.Metrics {
			if _, twice := out[name]; twice || g.Reason == "" {
				t.Errorf("%s: %s is listed twice, or without a reason", unserved, name)
			}
			out[name] = g.Reason
		}
	}
	return out
}

// record writes upstreamMetrics.
func record(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile(*documented)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name, Namespace, Subsystem, Type, StabilityLevel, DeprecatedVersion, Help string
		Labels                                                                    []string
		ConstLabels                                                               map[string]string
		Buckets                                                                   []float64
		ComponentEndpoints                                                        []struct{ Component, Endpoint string }
	}
	if data, err = yaml.YAMLToJSON(data); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]*upstreamMetric{}
	for _, d := range list {
		m := &upstreamMetric{kind: strings.ToLower(d.Type), stability: d.StabilityLevel, help: d.Help, buckets: d.Buckets}
		m.labels = append(d.Labels, slices.Collect(maps.Keys(d.ConstLabels))...)
		m.name = strings.Join(slices.DeleteFunc([]string{d.Namespace, d.Subsystem, d.Name}, func(s string) bool { return s == "" }), "_")
		if d.DeprecatedVersion != "" {
			m.help = fmt.Sprintf("(Deprecated since %s) %s", d.DeprecatedVersion, m.help)
		}
		for _, e := range d.ComponentEndpoints {
			if e.Endpoint == "/metrics" && slices.Contains(components, e.Component) {
				found[m.name] = m
			}
		}
		if m.kind == "custom" {
			m.kind = ""
		}
	}
	for _, component := range components {
		data, err := os.ReadFile(*outputs + "/" + component)
		if err != nil {
			t.Fatal(err)
		}
		for name, f := range parseMetrics(t, data) {
			found[name] = seen(name, f, found[name])
		}
	}
	var out bytes.Buffer
	for _, m := range slices.SortedFunc(maps.Values(found), func(a, b *upstreamMetric) int { return cmp.Compare(a.name, b.name) }) {
		if strings.HasPrefix(m.name, "go_") || strings.HasPrefix(m.name, "process_") { // the client library's own
			continue
		}
		slices.Sort(m.labels)
		var buckets []string
		for _, b := range m.buckets {
			buckets = append(buckets, strconv.FormatFloat(b, 'g', 12, 64))
		}
		help := strings.NewReplacer("\n", `\n`, "\t", " ").Replace(m.help)
		fmt.Fprintln(&out, strings.Join([]string{m.name, m.kind, m.stability, strings.Join(m.labels, ","), strings.Join(buckets, ","), help}, "\t"))
	}
	if err := os.WriteFile(upstreamMetrics, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// seen is a metric as it is shown, which counts for more than how it is documented.
func seen(name string, f *dto.MetricFamily, known *upstreamMetric) *upstreamMetric {
	m := &upstreamMetric{name: name, kind: strings.ToLower(f.GetType().String()), labels: labelsOf(f), help: f.GetHelp()}
	if level, help, ok := strings.Cut(m.help, "] "); ok && strings.HasPrefix(level, "[") {
		m.stability, m.help = level[1:], help
	} else if level, help, ok := strings.Cut(m.help, ": ["); ok { // EXPERIMENTAL
		m.stability, m.help = level, "["+help
	}
	if known != nil && len(m.labels) < len(known.labels) {
		m.labels = known.labels // those that are empty are not shown
	}
	if h := f.GetMetric()[0].GetHistogram(); h != nil {
		for _, b := range h.GetBucket() {
			if v := b.GetUpperBound(); v <= 1e300 {
				m.buckets = append(m.buckets, v)
			}
		}
	}
	return m
}
