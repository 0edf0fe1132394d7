package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// idle is how many connections a server must bear: "make idle" tries 10,000.
var idle = flag.Int("idle", 200, "how many connections do nothing at the same time")

// slowClient is a connection that sends frames, or text, of the test's own.
type slowClient struct {
	*tls.Conn
	framer *http2.Framer
	block  bytes.Buffer
	host   string
}

// dial opens a connection on which protocol is spoken, with as little room for what the server sends as can be.
func dial(t *testing.T, protocol string) *slowClient {
	t.Helper()
	config, err := api.config()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	cfg = cfg.Clone()
	cfg.NextProtos, cfg.ServerName = []string{protocol}, u.Hostname()
	c := &slowClient{Conn: tls.Client(conn, cfg), host: u.Host}
	t.Cleanup(func() { conn.Close() })
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if protocol == "h2" {
		c.framer = http2.NewFramer(c, c)
		if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.framer.WriteSettings(), c.framer.WriteSettingsAck()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// ask sends a request's headers. n bytes of body are announced.
func (c *slowClient) ask(t *testing.T, method, path string, n int) {
	t.Helper()
	if c.framer == nil {
		if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", method, path, c.host, n); err != nil {
			t.Fatal(err)
		}
		return
	}
	e := hpack.NewEncoder(&c.block)
	for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":path", path}, {":authority", c.host}, {"content-type", "application/json"}, {"content-length", strconv.Itoa(n)}} {
		if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block.Bytes(), EndStream: n == 0, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
}

// until reads frames of the request's stream until one is as wanted, and returns how many bytes of its body came.
func (c *slowClient) until(wanted func(http2.Frame) bool) (got int, err error) {
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return got, err
		}
		if d, ok := f.(*http2.DataFrame); ok {
			got += len(d.Data())
		}
		if f.Header().StreamID == 1 && wanted(f) {
			return got, nil
		}
	}
}

func ends(f http2.Frame) bool { return f.Header().Flags.Has(http2.FlagDataEndStream) }

func reset(f http2.Frame) bool { return f.Header().Type == http2.FrameRSTStream }

// resident is the server's memory in kB.
func resident(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", api.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// others makes requests of another client until the returned function is called, and complains of those that fail.
func others(t *testing.T) (stop func()) {
	t.Helper()
	c := api.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			one, end := context.WithTimeout(t.Context(), 20*time.Second)
			if _, err := c.CoreV1().Namespaces().Get(one, "default", metav1.GetOptions{}); err != nil {
				t.Errorf("another client: %v", err)
			}
			end()
			time.Sleep(5 * time.Millisecond)
		}
	})
	return func() { cancel(); group.Wait() }
}

func TestIdleConnectionsCostLittle(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if need := uint64(*idle + 1000); limit.Max < need {
		t.Fatalf("the hard limit of open files is %d, and %d are needed", limit.Max, need)
	}
	stop := others(t)
	defer stop()
	before := resident(t)
	for range *idle {
		c := dial(t, "h2")
		c.ask(t, http.MethodGet, "/readyz", 0)
		if _, err := c.until(ends); err != nil {
			t.Fatal(err)
		}
	}
	grown := resident(t) - before
	t.Logf("%d idle connections: %d kB, %.1f kB each", *idle, grown, float64(grown)/float64(*idle))
	const each, some = 64, 48 << 10 // kB; garbage is some
	if grown > *idle*each+some {
		t.Errorf("%d idle connections cost %d kB", *idle, grown)
	}
}

// slowMaps makes what is slow to read.
func slowMaps(t *testing.T) (path string, update func(int)) {
	t.Helper()
	c := api.client(t)
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "slow"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.CoreV1().ConfigMaps("slow").DeleteCollection(context.WithoutCancel(t.Context()), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
	})
	noise := make([]byte, 40<<10)
	_, _ = rand.Read(noise) // never fails
	put := func(name string) error {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, BinaryData: map[string][]byte{"noise": noise}}
		_, err := c.CoreV1().ConfigMaps("slow").Create(t.Context(), m, metav1.CreateOptions{})
		return err
	}
	for i := range 400 {
		if err := put(fmt.Sprint("m", i)); err != nil {
			t.Fatal(err)
		}
	}
	return "/api/v1/namespaces/slow/configmaps", func(n int) {
		for i := range n {
			if err := put(fmt.Sprint("n", i)); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSlowClientsAreCutOff lets clients of many sorts of slowness hold requests of two seconds.
func TestSlowClientsAreCutOff(t *testing.T) {
	if *idle < 1000 {
		t.Skip("\"make idle\" runs it: it takes minutes")
	}
	path, update := slowMaps(t)
	stop := others(t)
	defer stop()
	before := resident(t)
	var group sync.WaitGroup
	const many, whole = 20, 16 << 20
	each := func(protocol, method string, body int, do func(*slowClient)) {
		for range many {
			c := dial(t, protocol)
			c.ask(t, method, path+"?timeout=2s", body)
			group.Go(func() { do(c) })
		}
	}
	watchers, headless := make([]*slowClient, many), make([]*slowClient, many)
	for i := range watchers { // they never read
		watchers[i] = dial(t, "h2")
		watchers[i].ask(t, http.MethodGet, path+"?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", 0)
		headless[i] = dial(t, "http/1.1") // headers that don't end
		if _, err := fmt.Fprintf(headless[i], "GET %s HTTP/1.1\r\nHost: x\r\nX-A", path); err != nil {
			t.Fatal(err)
		}
	}
	each("h2", http.MethodGet, 0, func(c *slowClient) { // no window is opened
		if got, err := c.until(reset); err != nil || got > 1<<20 {
			t.Errorf("a client without a window got %d bytes, then %v", got, err)
		}
	})
	each("h2", http.MethodGet, 0, func(c *slowClient) { // a byte at a time
		done := make(chan struct{})
		go func() {
			defer close(done)
			if got, err := c.until(reset); err != nil || got > 1<<20 {
				t.Errorf("a client that reads bytewise got %d bytes, then %v", got, err)
			}
		}()
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				_ = c.framer.WriteWindowUpdate(1, 1) // the stream may have ended
			}
		}
	})
	each("http/1.1", http.MethodGet, 0, func(c *slowClient) { // HTTP/1.1, without reading until it is too late
		time.Sleep(10 * time.Second)
		if err := c.NetConn().(*net.TCPConn).SetReadBuffer(4 << 20); err != nil { // what has been sent by now is wanted soon
			t.Error(err)
		}
		if n, _ := io.Copy(io.Discard, c); n >= whole { // that it breaks off is what is wanted
			t.Errorf("a client that did not read for long got all %d bytes", n)
		}
	})
	each("h2", http.MethodPost, 1000, func(c *slowClient) { // bodies that don't come
		if _, err := c.until(ends); err != nil {
			t.Errorf("a client that sends no body: %v", err)
		}
	})
	each("http/1.1", http.MethodPost, 1000, func(c *slowClient) {
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("a client that sends no body over HTTP/1.1: %v", err)
		}
	})
	update(100)
	grown := resident(t) - before // while nobody reads
	group.Wait()
	grown = max(grown, resident(t)-before)
	t.Logf("the server grew by %d kB", grown)
	if grown > 400<<10 {
		t.Errorf("slow clients cost %d kB", grown)
	}
	for _, c := range headless {
		if err := c.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) { // it may be told why
			t.Error("a client whose headers don't end is not cut off")
		}
	}
}
