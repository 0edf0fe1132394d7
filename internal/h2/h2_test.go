package h2_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"clipper.dev/clipper/internal/h2"
)

// serve starts a server and returns its address and a client that speaks HTTP/2 with it.
func serve(t *testing.T, s *h2.Server, handler http.HandlerFunc) (string, *http.Client) {
	t.Helper()
	address, pool, _ := listen(t, s, handler)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return "https://" + address, &http.Client{Transport: transport}
}

func listen(t *testing.T, s *h2.Server, handler http.HandlerFunc) (string, *x509.CertPool, *http.Server) {
	t.Helper()
	// httptest has a certificate for 127.0.0.1.
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	pool := x509.NewCertPool()
	pool.AddCert(certified.Certificate())
	server := &http.Server{
		Handler: handler, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}},
	}
	s.Configure(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() { _ = server.ServeTLS(h2.Listen(l), "", "") })
	t.Cleanup(func() {
		server.Close()
		group.Wait()
	})
	return l.Addr().String(), pool, server
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, []byte) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewSource(int64(n)))
	r.Read(b)
	return b
}

func TestASmallResponseHasItsLengthTypeAndDate(t *testing.T) {
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "keep-alive")
		w.Header().Add("X-Twice", "a")
		w.Header().Add("X-Twice", "b")
		fmt.Fprintf(w, "<html>%s %s %s", r.Proto, r.URL, r.Host)
	})
	resp, body := get(t, client, url+"/a?b=c")
	host := strings.TrimPrefix(url, "https://")
	if want := "<html>HTTP/2.0 /a?b=c " + host; string(body) != want {
		t.Errorf("got %q, want %q", body, want)
	}
	if resp.ProtoMajor != 2 || resp.ContentLength != int64(len(body)) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || resp.Header.Get("Date") == "" {
		t.Errorf("got %+v", resp)
	}
	if resp.Header.Get("Connection") != "" || len(resp.Header.Values("X-Twice")) != 2 {
		t.Errorf("got headers %v", resp.Header)
	}
}

func TestBodiesOfAllSizesArriveWhole(t *testing.T) {
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if piece, _ := strconv.Atoi(r.URL.Query().Get("piece")); piece > 0 {
			for len(body) > piece {
				if _, err := w.Write(body[:piece]); err != nil {
					t.Error(err)
				}
				body = body[piece:]
			}
		} else {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		if _, err := w.Write(body); err != nil {
			t.Error(err)
		}
	})
	var group sync.WaitGroup
	for _, n := range []int{0, 1, 4095, 4096, 4097, 16384, 65535, 65536, 70000, 300000, 6500000} {
		for _, piece := range []int{0, 100, 5000, 100000} {
			group.Go(func() {
				sent := random(n)
				resp, err := client.Post(fmt.Sprintf("%s/?piece=%d", url, piece), "x/y", bytes.NewReader(sent))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("of %d bytes in pieces of %d %d came back, %v", n, piece, len(got), err)
				}
			})
		}
	}
	group.Wait()
}

func TestManyStreamsOfOneConnectionShareIt(t *testing.T) {
	big := random(1 << 20)
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			w.Write(big)
		case "/stream":
			for i := range 50 {
				fmt.Fprintf(w, "%d\n", i)
				w.(http.Flusher).Flush()
			}
		default:
			fmt.Fprint(w, r.URL.Path)
		}
	})
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			for range 5 {
				switch i % 20 {
				case 0:
					if _, body := get(t, client, url+"/big"); !bytes.Equal(body, big) {
						t.Error("a large response is damaged")
					}
				case 1, 2, 3, 4:
					if _, body := get(t, client, url+"/stream"); bytes.Count(body, []byte("\n")) != 50 {
						t.Errorf("got %q", body)
					}
				default:
					path := "/" + strconv.Itoa(i)
					if _, body := get(t, client, url+path); string(body) != path {
						t.Errorf("got %q, want %q", body, path)
					}
				}
			}
		})
	}
	group.Wait()
}

func TestWhatIsFlushedArrivesBeforeTheEnd(t *testing.T) {
	more := make(chan struct{})
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			fmt.Fprintln(w, "event")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-more
		}
	})
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for range 3 {
		if line, err := lines.ReadString('\n'); err != nil || line != "event\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		more <- struct{}{}
	}
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Error(err)
	}
}

func TestAClientThatLeavesEndsTheRequestsContext(t *testing.T) {
	ended := make(chan error, 1)
	began := make(chan struct{})
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		close(began)
		<-r.Context().Done()
		_, err := w.Write(random(100000))
		ended <- err
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-began
	cancel()
	if err := <-ended; err == nil {
		t.Error("a write to a client that has gone succeeded")
	}
}

func TestAHandlerThatPanicsLosesItsStreamOnly(t *testing.T) {
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			fmt.Fprint(w, "half")
			panic("broken")
		}
		if r.URL.Path == "/short" {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
			return
		}
		fmt.Fprint(w, "fine")
	})
	for _, path := range []string{"/panic", "/short"} {
		resp, err := client.Get(url + path)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s ended well", path)
		}
		if _, body := get(t, client, url); string(body) != "fine" {
			t.Errorf("got %q", body)
		}
	}
}

func TestTrailersGoBothWays(t *testing.T) {
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-Asked"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
	})
	req, _ := http.NewRequest(http.MethodPost, url, io.MultiReader(strings.NewReader("abc")))
	req.Trailer = http.Header{"X-Asked": {"sum"}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "abc" {
		t.Errorf("got %q, %v", body, err)
	}
	if resp.Trailer.Get("X-Sum") != "sum" || resp.Trailer.Get("X-Late") != "yes" {
		t.Errorf("got trailers %v", resp.Trailer)
	}
}

func TestStatusesWithoutABody(t *testing.T) {
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Path[1:])
		if code == http.StatusNoContent {
			w.WriteHeader(code)
			if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Errorf("got %v", err)
			}
			return
		}
		fmt.Fprint(w, "body")
	})
	if resp, body := get(t, client, url+"/204"); resp.StatusCode != http.StatusNoContent || len(body) != 0 || resp.ContentLength != 0 {
		t.Errorf("got %v, %q", resp, body)
	}
	resp, err := client.Head(url + "/200")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ContentLength != 4 {
		t.Errorf("a HEAD has length %d", resp.ContentLength)
	}
}

func TestAClientMayWaitToBeToldToGoOn(t *testing.T) {
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Hint", "1")
		w.WriteHeader(http.StatusEarlyHints)
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	var informed []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { informed = append(informed, code); return nil }}
	req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, url, strings.NewReader("go on"))
	req.Header.Set("Expect", "100-continue")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "go on" || len(informed) == 0 {
		t.Errorf("got %q, %v after %v", body, err, informed)
	}
}

func TestHeadersThatAreTooLargeAreRefused(t *testing.T) {
	url, client := serve(t, &h2.Server{MaxHeaderBytes: 8 << 10}, func(http.ResponseWriter, *http.Request) {})
	get(t, client, url) // so that the client knows
	raw := dial(t, url)
	raw.headers(1, true, slices.Repeat([]hpack.HeaderField{{Name: "x", Value: strings.Repeat("y", 1000)}}, 10)...)
	if f := raw.until(http2.FrameHeaders).(*http2.MetaHeadersFrame); f.PseudoValue("status") != "431" {
		t.Errorf("got %v", f)
	}
}

func TestAShutdownLetsRequestsFinish(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	address, pool, server := listen(t, new(h2.Server), func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-goOn
		w.Write(random(500000))
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	var group sync.WaitGroup
	group.Go(func() {
		resp, err := client.Get("https://" + address)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 500000 {
			t.Errorf("got %d bytes, %v", len(body), err)
		}
	})
	<-began
	group.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	close(goOn)
	group.Wait()
}
