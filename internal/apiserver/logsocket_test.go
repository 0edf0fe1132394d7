package apiserver_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func TestLogsTravelOverWebSockets(t *testing.T) {
	f := newConnectFixture(t)
	url := "wss" + strings.TrimPrefix(f.http.URL, "https") + "/api/v1/namespaces/default/pods/p/log?container=c&tailLines=2"
	for _, test := range []struct{ name, protocol, want string }{
		{"as they are where no protocol is named", "", "log 2"},
		{"as they are", "binary.k8s.io", "log 2"},
		{"as text", "base64.binary.k8s.io", "bG9nIDI="},
	} {
		t.Run(test.name, func(t *testing.T) {
			dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test server
			if test.protocol != "" {
				dialer.Subprotocols = []string{test.protocol}
			}
			conn, answer, err := dialer.Dial(url, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			answer.Body.Close()
			if conn.Subprotocol() != test.protocol {
				t.Errorf("got protocol %q, want %q", conn.Subprotocol(), test.protocol)
			}
			var got strings.Builder
			for {
				_, message, err := conn.ReadMessage()
				if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got.Write(message)
			}
			if got.String() != test.want {
				t.Errorf("got %q, want %q", got.String(), test.want)
			}
		})
	}
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{"v5.channel.k8s.io"}} //nolint:gosec // a test server
	if _, answer, err := dialer.Dial(url, nil); err == nil || answer.StatusCode != 400 {
		t.Errorf("a protocol of exec was accepted for a log: %v", err)
	}
}
