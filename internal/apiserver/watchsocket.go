package apiserver

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"clipper.dev/clipper/internal/apiserver/negotiate"
)

// wantsWebSocket tells whether a watch is to be sent over a WebSocket, as browsers do it.
func wantsWebSocket(r *http.Request) bool {
	return upgrades(r) && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// socketWrite bounds how long a message may take to leave.
const socketWrite = 30 * time.Second

// A watchSocket sends each event as one message: text for JSON, binary for protobuf.
type watchSocket struct {
	conn    *websocket.Conn
	message int
	done    chan struct{} // closed when nothing more is read
}

// openWatchSocket upgrades a request, to one of some protocols if any are named. gone is called when the client closes the socket.
func openWatchSocket(w http.ResponseWriter, r *http.Request, f negotiate.Format, gone context.CancelFunc, protocols ...string) (*watchSocket, error) {
	// Who asks has been established by what the request carries, never by cookies: any page may ask.
	upgrader := websocket.Upgrader{Subprotocols: protocols, CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, err
	}
	s := &watchSocket{conn: conn, message: websocket.TextMessage, done: make(chan struct{})}
	if f == negotiate.Protobuf {
		s.message = websocket.BinaryMessage
	}
	go func() {
		defer close(s.done)
		defer gone()
		conn.SetReadLimit(4 << 10) // clients have nothing to say
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}()
	return s, nil
}

func (s *watchSocket) put(frame []byte) error {
	if s.message == websocket.BinaryMessage {
		frame = frame[4:] // a message knows its length
	}
	return s.write(frame)
}

func (s *watchSocket) write(message []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(socketWrite)); err != nil {
		return err
	}
	return s.conn.WriteMessage(s.message, message)
}

func (s *watchSocket) send() error { return nil }

// close ends the socket and waits for its reader.
func (s *watchSocket) close() {
	deadline := time.Now().Add(time.Second)
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), deadline)
	_ = s.conn.Close()
	<-s.done
}
