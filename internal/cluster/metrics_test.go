package cluster

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/spf13/pflag"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"clipper.dev/clipper/internal/exposition/expositiontest"
)

// documented and outputs are what expositiontest.Page.Record makes the list from.
var (
	documented = flag.String("documented", "", "test/instrumentation/documentation/documentation-list.yaml of Kubernetes: rewrite the list of its metrics from it")
	outputs    = flag.String("outputs", "", "with -documented: folder of what upstream's components serve, each page in a file by its name")
)

// TestMetricsAreUpstreams holds everything that is registered, and what of it a server shows after some requests, against what upstream documents.
func TestMetricsAreUpstreams(t *testing.T) {
	page := expositiontest.Page{
		List: "testdata/metrics.tsv", Unserved: "testdata/metrics-unserved.yaml",
		Components: []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}, Endpoint: "/metrics",
	}
	if *documented != "" {
		page.Record(t, *documented, *outputs)
	}
	if testing.Short() {
		t.Skip("a server needs root")
	}
	s, admin := serveForTest(t, "metrics-test")
	exercise(t, admin)
	shown := scrape(t, admin)
	page.Compare(t, expositiontest.Describe(s.metrics), shown)

	resources := expositiontest.Page{List: page.List, Components: page.Components, Endpoint: "/metrics/resources", Only: []string{"kube_pod_resource_"}}
	data, err := kubernetes.NewForConfigOrDie(admin).RESTClient().Get().AbsPath(resources.Endpoint).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	resources.Compare(t, map[string]expositiontest.Description{}, expositiontest.Parse(t, data))
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
	resources := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	if _, err := c.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: resources, Limits: resources}}},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
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
	return expositiontest.Parse(t, data)
}
