package h2_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"clipper.dev/clipper/internal/h2"
)

// A rawClient sends and receives single frames.
type rawClient struct {
	t       *testing.T
	conn    *tls.Conn
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
}

func dial(t *testing.T, url string, settings ...http2.Setting) *rawClient {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c := &rawClient{t: t, conn: conn, framer: http2.NewFramer(conn, conn)}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c.try(c.framer.WriteSettings(settings...))
	return c
}

func (c *rawClient) try(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// headers opens a stream with a GET of "/", or a POST if more is to come.
func (c *rawClient) headers(id uint32, end bool, more ...hpack.HeaderField) {
	c.t.Helper()
	method := http.MethodPost
	if end {
		method = http.MethodGet
	}
	c.fields(id, end, append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: "a"},
	}, more...)...)
}

func (c *rawClient) fields(id uint32, end bool, fields ...hpack.HeaderField) {
	c.t.Helper()
	c.block.Reset()
	for _, f := range fields {
		c.try(c.encoder.WriteField(f))
	}
	c.try(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: end}))
}

// until reads to the next frame of a type.
func (c *rawClient) until(want http2.FrameType) http2.Frame {
	c.t.Helper()
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", want, err)
		}
		if f.Header().Type == want {
			return f
		}
	}
}

func (c *rawClient) wantReset(id uint32, code http2.ErrCode) {
	c.t.Helper()
	if f := c.until(http2.FrameRSTStream).(*http2.RSTStreamFrame); f.StreamID != id || f.ErrCode != code {
		c.t.Errorf("got %v, want a reset of %d with %s", f, id, code)
	}
}

func (c *rawClient) wantEnd(code http2.ErrCode) {
	c.t.Helper()
	if f := c.until(http2.FrameGoAway).(*http2.GoAwayFrame); f.ErrCode != code {
		c.t.Errorf("got %v, want %s", f, code)
	}
}

func TestFaultsEndTheStreamOrTheConnection(t *testing.T) {
	url, _ := serve(t, &h2.Server{MaxStreams: 3}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})
	big := make([]byte, 16<<10)
	for name, test := range map[string]func(c *rawClient){
		"an even stream": func(c *rawClient) {
			c.headers(2, true)
			c.wantEnd(http2.ErrCodeProtocol)
		},
		"a stream that goes back": func(c *rawClient) {
			c.headers(5, true)
			c.headers(3, true)
			c.wantEnd(http2.ErrCodeStreamClosed)
		},
		"data of a stream never opened": func(c *rawClient) {
			c.try(c.framer.WriteData(1, true, nil))
			c.wantEnd(http2.ErrCodeProtocol)
		},
		"data after the end": func(c *rawClient) {
			c.headers(1, true)
			c.until(http2.FrameHeaders)
			c.try(c.framer.WriteData(1, true, []byte("x")))
			c.wantReset(1, http2.ErrCodeStreamClosed)
		},
		"more streams than allowed": func(c *rawClient) {
			for id := uint32(1); id < 9; id += 2 {
				c.headers(id, false)
			}
			c.wantReset(7, http2.ErrCodeRefusedStream)
		},
		"streams opened and reset at once": func(c *rawClient) {
			for id := uint32(1); id < 2000; id += 2 {
				c.headers(id, false)
				c.try(c.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			}
			c.headers(2001, true)
			c.until(http2.FrameHeaders)
		},
		"a body longer than declared": func(c *rawClient) {
			c.headers(1, false, hpack.HeaderField{Name: "content-length", Value: "1"})
			c.try(c.framer.WriteData(1, false, []byte("xx")))
			c.wantReset(1, http2.ErrCodeProtocol)
		},
		"a body shorter than declared": func(c *rawClient) {
			c.headers(1, false, hpack.HeaderField{Name: "content-length", Value: "3"})
			c.try(c.framer.WriteData(1, true, []byte("xx")))
			c.wantReset(1, http2.ErrCodeProtocol)
		},
		"a header of connections": func(c *rawClient) {
			c.headers(1, true, hpack.HeaderField{Name: "connection", Value: "close"})
			c.wantReset(1, http2.ErrCodeProtocol)
		},
		"a request without a path": func(c *rawClient) {
			c.fields(1, true, hpack.HeaderField{Name: ":method", Value: "GET"}, hpack.HeaderField{Name: ":scheme", Value: "https"})
			c.wantReset(1, http2.ErrCodeProtocol)
		},
		"a window that overflows": func(c *rawClient) {
			c.try(c.framer.WriteWindowUpdate(0, 1<<31-1))
			c.wantEnd(http2.ErrCodeFlowControl)
		},
		"a frame that is too large": func(c *rawClient) {
			c.try(c.framer.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20)))
			c.wantEnd(http2.ErrCodeFrameSize)
		},
		"a ping is answered": func(c *rawClient) {
			c.try(c.framer.WritePing(false, [8]byte{7}))
			if f := c.until(http2.FramePing).(*http2.PingFrame); !f.IsAck() || f.Data != [8]byte{7} {
				c.t.Errorf("got %v", f)
			}
		},
		"credit comes back for what is read": func(c *rawClient) {
			c.headers(1, false)
			for range 8 {
				c.try(c.framer.WriteData(1, false, big))
			}
			if f := c.until(http2.FrameWindowUpdate).(*http2.WindowUpdateFrame); f.StreamID != 0 {
				c.t.Errorf("got %v", f)
			}
			if f := c.until(http2.FrameWindowUpdate).(*http2.WindowUpdateFrame); f.StreamID != 1 {
				c.t.Errorf("got %v", f)
			}
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { test(dial(t, url)) })
	}
}

func TestAResponseWaitsForTheClientsWindow(t *testing.T) {
	url, _ := serve(t, new(h2.Server), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 100)) })
	c := dial(t, url, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	c.until(http2.FrameSettings)
	c.headers(1, true)
	got := 0
	for got < 100 {
		f := c.until(http2.FrameData).(*http2.DataFrame)
		if got += len(f.Data()); len(f.Data()) > 10 {
			t.Fatalf("%d bytes came at once", len(f.Data()))
		}
		if f.StreamEnded() != (got == 100) {
			t.Errorf("the end came after %d bytes", got)
		}
		c.try(c.framer.WriteWindowUpdate(1, 10))
	}
}

func TestAnIdleConnectionEnds(t *testing.T) {
	url, _ := serve(t, &h2.Server{IdleTimeout: 50 * time.Millisecond}, func(http.ResponseWriter, *http.Request) {})
	c := dial(t, url)
	c.headers(1, true)
	c.wantEnd(http2.ErrCodeNo)
	if _, err := c.framer.ReadFrame(); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// FuzzFrames sends arbitrary bytes as frames. The server must neither panic nor hold on to the connection.
func FuzzFrames(f *testing.F) {
	var seed bytes.Buffer
	framer := http2.NewFramer(&seed, nil)
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82, 0x87, 0x84, 0x41, 1, 'a'}, EndHeaders: true})
	_ = framer.WriteData(1, true, []byte("body"))
	_ = framer.WritePing(false, [8]byte{1})
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		url, _ := serve(t, new(h2.Server), func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
		conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Skip(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, http2.ClientPreface)
		_, _ = conn.Write(data)
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, io.ErrNoProgress) {
			t.Error(err)
		}
	})
}
