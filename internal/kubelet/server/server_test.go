package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// reviewer answers access reviews by user and subresource.
type reviewer struct {
	*clienttest.Client
	allow map[string]bool
	asked []string
}

func (r *reviewer) Create(ctx context.Context, gvr schema.GroupVersionResource, obj client.Object, opts metav1.CreateOptions) (client.Object, error) {
	review, ok := runtime.Object(obj).(*authorizationv1.SubjectAccessReview)
	if !ok {
		return r.Client.Create(ctx, gvr, obj, opts)
	}
	attrs := review.Spec.ResourceAttributes
	key := fmt.Sprintf("%s %s %s/%s", review.Spec.User, attrs.Verb, attrs.Name, attrs.Subresource)
	r.asked = append(r.asked, key)
	answer := review.DeepCopy()
	answer.Status.Allowed = r.allow[key]
	return answer, nil
}

// onePod is a backend with one pod.
type onePod struct{ pod Pod }

func (b onePod) ListPods() []Pod { return []Pod{b.pod} }
func (b onePod) FindPod(namespace, name string, _ types.UID) (Pod, bool) {
	return b.pod, namespace == b.pod.Namespace && name == b.pod.Name
}
func (b onePod) WatchPod(types.UID) (<-chan struct{}, func()) { return nil, func() {} }

func certificate(t *testing.T, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (tls.Certificate, *x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: ca == nil, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if ca == nil {
		ca, caKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, parsed, key
}

func TestTheAPI(t *testing.T) {
	_, ca, caKey := certificate(t, "ca", nil, nil)
	serverCert, _, _ := certificate(t, "kubelet", ca, caKey)
	clientCert, _, _ := certificate(t, "alice", ca, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)

	dir := t.TempDir()
	logPath := filepath.Join(dir, "0.log")
	if err := os.WriteFile(logPath, []byte("2024-01-01T00:00:00Z stdout F one\n2024-01-01T00:00:01Z stderr F two\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}, {Name: "w"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "c", ContainerID: "x://1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			{Name: "w", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
		}},
	}
	backend := onePod{Pod{Pod: pod, Observed: &lifecycle.Observed{Containers: []lifecycle.Container{{ID: "1", Name: "c", State: lifecycle.Running, LogPath: logPath}}}}}
	api := &reviewer{Client: clienttest.New(), allow: map[string]bool{"alice get n1/proxy": true, "alice get n1/pods": true}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		s := newServer(Config{
			Access: Access{TokenTTL: time.Minute, AllowedTTL: time.Minute, DeniedTTL: time.Minute}, Client: api, NodeName: "n1", Backend: backend,
			Metrics: prometheus.NewRegistry(), Probes: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		})
		ended <- s.serve(ctx, l, &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientCAs: pool}, s.handler())
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	get := func(path string, certs ...tls.Certificate) (int, string) {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, tc := range []struct {
		name, path string
		certs      []tls.Certificate
		code       int
		body       string
	}{
		{"nobody is anonymous", "/pods", nil, 401, "Unauthorized"},
		{"who may not is told so", "/metrics", []tls.Certificate{clientCert}, 403, "Forbidden (user=alice, verb=get, resource=nodes, subresource(s)=[metrics])"},
		{"pods are listed", "/pods", []tls.Certificate{clientCert}, 200, `"kind":"PodList"`},
		{"the wider permission is enough", "/healthz", []tls.Certificate{clientCert}, 200, "ok"},
		{"logs are read", "/containerLogs/ns/p/c", []tls.Certificate{clientCert}, 200, "one\ntwo\n"},
		{"the tail of logs", "/containerLogs/ns/p/c?tailLines=1&timestamps=true", []tls.Certificate{clientCert}, 200, "2024-01-01T00:00:01Z two\n"},
		{"logs of a pod that isn't there", "/containerLogs/ns/q/c", []tls.Certificate{clientCert}, 404, `pod "q" does not exist`},
		{"logs of a container that isn't there", "/containerLogs/ns/p/d", []tls.Certificate{clientCert}, 404, `container "d" not found in pod "p"`},
		{"logs of a container that waits", "/containerLogs/ns/p/w", []tls.Certificate{clientCert}, 400, `container "w" in pod "p" is waiting to start: trying and failing to pull image`},
		{"logs of a former container that never was", "/containerLogs/ns/p/c?previous=true", []tls.Certificate{clientCert}, 400, `previous terminated container "c" in pod "p" not found`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, body := get(tc.path, tc.certs...)
			if code != tc.code || !strings.Contains(body, tc.body) {
				t.Errorf("got %d %q, want %d %q", code, body, tc.code, tc.body)
			}
		})
	}
	before := len(api.asked)
	get("/pods", clientCert)
	if len(api.asked) != before {
		t.Error("the same question was asked again")
	}
}
