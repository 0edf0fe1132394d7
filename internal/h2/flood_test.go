package h2_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"clipper.dev/clipper/internal/h2"
)

// besides makes ordinary requests, over a connection of their own, until the test ends: none may fail.
func besides(t *testing.T, client *http.Client, url string) {
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			resp, err := client.Get(url + "/other")
			if err != nil {
				t.Errorf("another client's request: %v", err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != "other" {
				t.Errorf("another client got %q, %v", body, err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		group.Wait()
	})
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// flood writes frames until the server has had enough, and returns how many bytes that took. Nothing is read meanwhile.
func (c *rawClient) flood(atMost int, frames func(*http2.Framer) error) int {
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	for b.Len() < 64<<10 {
		c.try(frames(f))
	}
	c.try(c.conn.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10))
	sent := 0
	for sent < atMost {
		n, err := c.conn.Write(b.Bytes())
		if sent += n; err != nil {
			break
		}
	}
	return sent
}

func TestFloodsEndTheConnectionAndNobodyElseNotices(t *testing.T) {
	blocked := make(chan struct{})
	t.Cleanup(func() { close(blocked) })
	url, client := serve(t, &h2.Server{MaxStreams: 20}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/other" {
			<-blocked
		}
		_, _ = io.WriteString(w, "other")
	})
	get := []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: "/"}}
	for name, test := range map[string]func(c *rawClient){
		"pings": func(c *rawClient) {
			if sent := c.flood(256<<20, func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) }); sent >= 256<<20 {
				c.t.Error("the server goes on answering")
			}
		},
		"settings": func(c *rawClient) {
			if sent := c.flood(256<<20, func(f *http2.Framer) error {
				return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 7})
			}); sent >= 256<<20 {
				c.t.Error("the server goes on answering")
			}
		},
		"one frame of many settings": func(c *rawClient) {
			c.try(c.framer.WriteSettings(make([]http2.Setting, 1000)...))
			c.wantEnd(http2.ErrCodeEnhanceYourCalm)
		},
		"data of streams that are closed": func(c *rawClient) {
			c.headers(1<<30+1, true)
			id := uint32(1)
			if sent := c.flood(256<<20, func(f *http2.Framer) error {
				id += 2
				return f.WriteData(id, false, nil)
			}); sent >= 256<<20 {
				c.t.Error("the server goes on resetting")
			}
		},
		"streams that are reset at once": func(c *rawClient) {
			for id := uint32(1); id < 4000; id += 2 {
				c.headers(id, true)
				c.try(c.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			}
			c.wantEnd(http2.ErrCodeEnhanceYourCalm)
		},
		"streams that the server resets at once": func(c *rawClient) {
			for id := uint32(1); id < 4000; id += 2 {
				c.headers(id, false)
				c.try(c.framer.WriteWindowUpdate(id, 1<<31-1))
			}
			c.wantEnd(http2.ErrCodeEnhanceYourCalm)
		},
		"headers without end": func(c *rawClient) {
			fragment := bytes.Repeat([]byte{0, 1, 'a', 100, 31: 'x', 103: 'x'}, 100)
			c.try(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fragment}))
			for range 1000 {
				if c.framer.WriteContinuation(1, false, fragment) != nil {
					break
				}
			}
			for { // what was not read may cost the reason
				if f, err := c.framer.ReadFrame(); err != nil || f.Header().Type == http2.FrameGoAway {
					return
				}
			}
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			besides(t, client, url)
			before := heap()
			c := dial(t, url)
			test(c)
			if grown := heap() - before; grown > 16<<20 {
				t.Errorf("memory has grown by %d KB", grown>>10)
			}
		})
	}

	t.Run("a_header_that_refers_to_a_large_one", func(t *testing.T) {
		besides(t, client, url)
		c := dial(t, url)
		for _, f := range get {
			c.try(c.encoder.WriteField(f))
		}
		c.try(c.encoder.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 4000)}))
		block := append(c.block.Bytes(), bytes.Repeat([]byte{0x80 | 62}, 12<<10)...) // 49 MB, by reference
		before := heap()
		for id := uint32(1); id < 30; id += 2 {
			c.try(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true}))
		}
		c.try(c.framer.WritePing(false, [8]byte{1}))
		c.framer.ReadMetaHeaders = nil
		c.until(http2.FramePing)
		if grown := heap() - before; grown > 16<<20 {
			t.Errorf("memory has grown by %d KB", grown>>10)
		}
	})
}

func TestLargeHeadersOfManyStreamsAreBounded(t *testing.T) {
	blocked := make(chan struct{})
	url, _ := serve(t, &h2.Server{MaxHeaderBytes: 32 << 10}, func(http.ResponseWriter, *http.Request) { <-blocked })
	t.Cleanup(func() { close(blocked) })
	c := dial(t, url)
	refused := 0
	for id := uint32(1); id < 40; id += 2 {
		c.headers(id, true, hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 15<<10)})
	}
	c.try(c.framer.WritePing(false, [8]byte{1}))
	for {
		f, err := c.framer.ReadFrame()
		c.try(err)
		if r, ok := f.(*http2.RSTStreamFrame); ok && r.ErrCode == http2.ErrCodeRefusedStream {
			refused++
		}
		if f.Header().Type == http2.FramePing {
			break
		}
	}
	if refused == 0 || refused > 5 {
		t.Errorf("%d of 20 were refused", refused)
	}
}

func TestAResponseWithoutAWindowLosesItsStreamAlone(t *testing.T) {
	failed := make(chan error, 1)
	url, client := serve(t, &h2.Server{StallTimeout: 50 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/other" {
			_, _ = io.WriteString(w, "other")
			return
		}
		_, err := w.Write(make([]byte, 100_000))
		failed <- err
	})
	besides(t, client, url)
	c := dial(t, url, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.headers(1, true)
	c.wantReset(1, http2.ErrCodeCancel)
	if err := <-failed; err == nil {
		t.Error("the handler was not told")
	}
	c.try(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	c.try(c.framer.WriteWindowUpdate(0, 1<<20))
	c.headers(3, true)
	for f := c.until(http2.FrameData).(*http2.DataFrame); !f.StreamEnded(); f = c.until(http2.FrameData).(*http2.DataFrame) {
	}
}

func TestIdleConnectionsCostLittle(t *testing.T) {
	const connections = 200
	url, client := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "other") })
	besides(t, client, url)
	address := strings.TrimPrefix(url, "https://")
	before := heap()
	for range connections {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, err = conn.Write(append([]byte(http2.ClientPreface), 0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0))
		if err != nil {
			t.Fatal(err)
		}
	}
	// Both ends are in this process.
	if each := (heap() - before) / connections; each > 128<<10 {
		t.Errorf("a connection costs %d KB", each>>10)
	}
}

// TestH2spec runs the conformance tests of github.com/summerwind/h2spec, if H2SPEC tells where the program is.
func TestH2spec(t *testing.T) {
	program := os.Getenv("H2SPEC")
	if program == "" {
		t.Skip("H2SPEC does not name the program")
	}
	url, _ := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = w.Write(binary.BigEndian.AppendUint64([]byte("hello "), uint64(n)))
	})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"generic", "http2", "hpack"} {
		// Headers that exceed a frame must exceed ours, which are larger than the protocol's smallest.
		out, err := exec.CommandContext(t.Context(), program, "-t", "-k", "-h", "127.0.0.1", "-p", port, "-o", "5", "--max-header-length", "16384", part).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", part, err, out)
		}
	}
}
