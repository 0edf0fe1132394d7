package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Port-forwarding over a WebSocket carries the bytes of a SPDY connection in binary messages.
const (
	tunnelPrefix    = "SPDY/3.1+"
	forwardProtocol = "portforward.k8s.io"
	protocolHeader  = "X-Stream-Protocol-Version"
	tunnelBuffer    = 32 << 10
	closeTimeout    = time.Second
)

// tunnel unpacks a WebSocket's SPDY bytes for the runtime and packs up its answers.
func (s *server) tunnel(w http.ResponseWriter, r *http.Request, to *url.URL) {
	backend, buffered, err := dialSPDY(r.Context(), to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer backend.Close()
	up := websocket.Upgrader{
		ReadBufferSize: tunnelBuffer, WriteBufferSize: tunnelBuffer,
		Subprotocols: []string{tunnelPrefix + forwardProtocol},
		CheckOrigin:  func(*http.Request) bool { return true }, // clients are authenticated by what browsers don't send by themselves
	}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		s.Logger.Debug("WebSocket not opened", "path", r.URL.Path, "error", err)
		return
	}
	defer ws.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer backend.Close()
		unpack(backend, ws)
	}()
	pack(ws, buffered)
	deadline := time.Now().Add(closeTimeout)
	// The other end may be gone already.
	_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), deadline)
	ws.Close()
	<-done
}

// dialSPDY opens a SPDY connection to the runtime by hand.
func dialSPDY(ctx context.Context, to *url.URL) (net.Conn, io.Reader, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", to.Host)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the runtime: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), nil)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("connect to the runtime: %w", err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "SPDY/3.1")
	req.Header.Set(protocolHeader, forwardProtocol)
	if err := req.Write(conn); err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("connect to the runtime: %w", err)
	}
	buffered := bufio.NewReader(conn)
	resp, err := http.ReadResponse(buffered, req)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("connect to the runtime: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what's there helps, an error doesn't
		conn.Close()
		return nil, nil, fmt.Errorf("connect to the runtime: %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return conn, buffered, nil
}

func unpack(to io.Writer, ws *websocket.Conn) {
	for {
		kind, reader, err := ws.NextReader()
		if err != nil {
			return
		}
		if kind != websocket.BinaryMessage {
			continue
		}
		if _, err := io.Copy(to, reader); err != nil {
			return
		}
	}
}

func pack(ws *websocket.Conn, from io.Reader) {
	buf := make([]byte, tunnelBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 && ws.WriteMessage(websocket.BinaryMessage, buf[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}
