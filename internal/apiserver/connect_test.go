package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store/storetest"
)

// fakeKubelet answers on TLS as a kubelet does: logs, and upgrades that echo.
type fakeKubelet struct{ *httptest.Server }

func newFakeKubelet(t *testing.T) fakeKubelet {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/containerLogs/default/p/c", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "log %s", r.URL.Query().Get("tailLines"))
	})
	mux.HandleFunc("/containerLogs/default/p/broken", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, "container is waiting to start")
	})
	mux.HandleFunc("/exec/default/p/c", func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		line, err := buf.ReadString('\n')
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(conn, "%s ran %s", strings.TrimSpace(line), r.URL.Query()["command"])
		if err := conn.(*tls.Conn).CloseWrite(); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(io.Discard, conn) // until the other side closes
	})
	mux.HandleFunc("/stats/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "node ", r.URL.Path) })
	mux.HandleFunc("/page/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<a href="/logs/">logs</a><a href="next">next</a><a href="http://elsewhere/x">x</a>`)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/page/", http.StatusFound) })
	k := fakeKubelet{httptest.NewTLSServer(mux)}
	t.Cleanup(k.Close)
	return k
}

func (k fakeKubelet) Endpoint(_ context.Context, node string, _ bool) (string, http.RoundTripper, error) {
	if node != "n1" {
		return "", nil, errors.New("no such node")
	}
	return k.URL, k.Client().Transport, nil
}

func (k fakeKubelet) Dial(ctx context.Context, _ string) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test server
	return d.DialContext(ctx, "tcp", k.Listener.Addr().String())
}

func newConnectFixture(t *testing.T) *fixture {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := apiserver.New(ctx, apiserver.Config{
		Store: storetest.New(t), Rows: allRows(), Security: admin(), Kubelets: newFakeKubelet(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Server: srv, http: httptest.NewTLSServer(srv.Handler())}
	t.Cleanup(func() { cancel(); f.http.Close() })
	c := f.Client(administrator)
	p := pod("p", "n1")
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "broken"})
	if _, err := client.Nodes.Create(ctx, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*corev1.Pod{p, pod("unbound", "")} {
		if _, err := client.Pods.Create(ctx, c, p); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestLogsComeFromTheKubelet(t *testing.T) {
	ctx := context.Background()
	pods := newConnectFixture(t).clients(t, "").CoreV1().Pods("default")
	two := int64(2)
	for _, test := range []struct {
		pod       string
		options   corev1.PodLogOptions
		want, err string
	}{
		{"p", corev1.PodLogOptions{Container: "c", TailLines: &two}, "log 2", ""},
		{"unbound", corev1.PodLogOptions{}, "", ""},
		{"p", corev1.PodLogOptions{}, "", "a container name must be specified for pod p, choose one of: [c broken]"},
		{"p", corev1.PodLogOptions{Container: "x"}, "", "container x is not valid for pod p"},
		{"p", corev1.PodLogOptions{Container: "broken"}, "", "container is waiting to start"},
		{"p", corev1.PodLogOptions{Container: "c", LimitBytes: new(int64)}, "", `PodLogOptions "p" is invalid: limitBytes: Invalid value: 0: must be greater than 0`},
		{"none", corev1.PodLogOptions{}, "", `pods "none" not found`},
	} {
		var got []byte
		stream, err := pods.GetLogs(test.pod, &test.options).Stream(ctx)
		if err == nil {
			got, err = io.ReadAll(stream)
		}
		if string(got) != test.want && test.err == "" || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("%s: got %q, %v; want %q, %q", test.pod, got, err, test.want, test.err)
		}
	}
}

func TestAPodThatRunsNowhereHasNoContentToLog(t *testing.T) {
	f := newConnectFixture(t)
	answer := f.as(t, "", "/api/v1/namespaces/default/pods/unbound/log")
	if got := text(t, answer); answer.StatusCode != http.StatusNoContent || got != "" {
		t.Errorf("got %s %q", answer.Status, got)
	}
}

func TestAClientThatSpeaksAfterTheEndGetsAllThatItsBackendSaid(t *testing.T) {
	f := newConnectFixture(t)
	conn, err := tls.Dial("tcp", f.http.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test server
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := strings.Repeat("0123456789abcdef", 64<<10) // more than the buffers between take
	fmt.Fprintf(conn, "POST /api/v1/namespaces/default/pods/p/exec?container=c&command=ls&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n%s\n", text)
	reader := bufio.NewReader(conn)
	if _, err := http.ReadResponse(reader, nil); err != nil {
		t.Fatal(err)
	}
	want, got := text+" ran [ls]", 0
	piece := make([]byte, 4<<10)
	for err == nil {
		var n int
		n, err = reader.Read(piece)
		if got+n > len(want) || string(piece[:n]) != want[got:got+n] {
			t.Fatalf("what follows %d bytes is not what was said", got)
		}
		if got += n; err == nil {
			_, err = conn.Write([]byte("ping"))
		}
	}
	if !errors.Is(err, io.EOF) || got != len(want) {
		t.Errorf("got %d bytes of %d: %v", got, len(want), err)
	}
}

func TestAnUpgradeIsPassedThrough(t *testing.T) {
	f := newConnectFixture(t)
	conn, err := tls.Dial("tcp", f.http.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test server
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /api/v1/namespaces/default/pods/p/exec?container=c&command=ls&command=-l&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello\n")
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Upgrade") != "SPDY/3.1" {
		t.Fatalf("got %v, %v", answer, err)
	}
	rest, err := io.ReadAll(reader)
	if err != nil || string(rest) != "hello ran [ls -l]" {
		t.Errorf("got %q, %v", rest, err)
	}
}

func TestExecWithoutUpgradeIsRefused(t *testing.T) {
	f := newConnectFixture(t)
	err := f.clients(t, "").CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/default/pods/p/exec").
		Param("container", "c").Do(context.Background()).Error()
	if err == nil || err.Error() != "Upgrade request required" {
		t.Errorf("got %v", err)
	}
}

func TestProxiesReachNodesAndNoLoopback(t *testing.T) {
	ctx := context.Background()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s?%s", r.Method, r.URL.Path, r.URL.RawQuery)
	}))
	defer backend.Close()
	at, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := newConnectFixture(t)
	raw := f.clients(t, "").CoreV1().RESTClient()
	got := must(raw.Get().AbsPath("/api/v1/nodes/n1/proxy/stats/summary").DoRaw(ctx))
	if string(got(t)) != "node /stats/summary" {
		t.Errorf("got %q", got(t))
	}
	// A pod cannot lead the server to itself.
	c := f.Client(administrator)
	p, err := client.Pods.Get(ctx, c, "default", "p")
	if err != nil {
		t.Fatal(err)
	}
	p = p.DeepCopy()
	p.Status.PodIP = at.Hostname()
	if _, err := client.Pods.UpdateStatus(ctx, c, p); err != nil {
		t.Fatal(err)
	}
	err = raw.Get().AbsPath("/api/v1/namespaces/default/pods/p:" + at.Port() + "/proxy/x").Do(ctx).Error()
	if err == nil || err.Error() != "address not allowed" {
		t.Errorf("got %v", err)
	}
}

func TestLinksAndRedirectsStayWithinTheProxy(t *testing.T) {
	f := newConnectFixture(t)
	const base = "/api/v1/nodes/n1/proxy"
	page, err := f.clients(t, "").CoreV1().RESTClient().Get().AbsPath(base + "/moved").DoRaw(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := `<a href="` + base + `/logs/">logs</a><a href="next">next</a><a href="http://elsewhere/x">x</a>`
	if string(page) != want {
		t.Errorf("got %s, want %s", page, want)
	}
}

func TestAWatchMayComeOverAWebSocket(t *testing.T) {
	ctx := context.Background()
	f := newConnectFixture(t)
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test server
	conn, answer, err := dialer.DialContext(ctx, "wss://"+f.http.Listener.Addr().String()+"/api/v1/namespaces/default/pods?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	defer conn.Close()
	for _, want := range []string{"p", "unbound"} {
		var event struct {
			Type   string
			Object corev1.Pod
		}
		if err := conn.ReadJSON(&event); err != nil || event.Type != "ADDED" || event.Object.Name != want {
			t.Errorf("got %+v, %v", event, err)
		}
	}
}

func TestWhatCannotBePrintedIsNoTable(t *testing.T) {
	f := newConnectFixture(t)
	err := f.clients(t, "").CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/default/bindings").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Body(&corev1.Binding{}).Do(context.Background()).Error()
	if status, ok := err.(apierrors.APIStatus); !ok || status.Status().Code != http.StatusNotAcceptable {
		t.Errorf("got %v", err)
	}
}
