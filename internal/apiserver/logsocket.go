package apiserver

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"slices"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/apiserver/negotiate"
)

// The protocols by which logs travel over WebSockets: as they are, which is also how they come to who names no protocol, or as text.
const (
	plainLog  = "binary.k8s.io"
	base64Log = "base64.binary.k8s.io"
)

// relaySocket streams a log as messages, after an empty one that tells that the log has been opened.
func relaySocket(w http.ResponseWriter, r *http.Request, log io.Reader, gone context.CancelFunc) error {
	protocols := []string{plainLog, base64Log}
	asked := websocket.Subprotocols(r)
	if len(asked) > 0 && !slices.ContainsFunc(asked, func(p string) bool { return slices.Contains(protocols, p) }) {
		return apierrors.NewBadRequest("none of the WebSocket's protocols is one of logs: " + plainLog + ", " + base64Log)
	}
	socket, err := openWatchSocket(w, r, negotiate.Protobuf, gone, protocols...)
	if err != nil {
		return errStreamed // the upgrade has been answered
	}
	defer socket.close()
	encode := func(b []byte) []byte { return b }
	if socket.conn.Subprotocol() == base64Log {
		socket.message = websocket.TextMessage
		encode = func(b []byte) []byte { return base64.StdEncoding.AppendEncode(nil, b) }
	}
	if err := socket.write(nil); err != nil {
		return errStreamed
	}
	buf := make([]byte, 8<<10)
	for {
		n, err := log.Read(buf)
		if n > 0 && socket.write(encode(buf[:n])) != nil || err != nil {
			return errStreamed // whatever ended the log, the socket's end tells it
		}
	}
}
