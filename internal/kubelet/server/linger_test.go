package server

import (
	"bytes"
	"io"
	"net"
	"testing"
)

func TestAPeerThatSpeaksAfterTheEndGetsAllThatWasWritten(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	text := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // more than the peer's buffers take
	closed := make(chan error, 1)
	go func() {
		accepted, err := listener.Accept()
		if err != nil {
			closed <- err
			return
		}
		conn := &lingeringConn{Conn: accepted}
		_, err = conn.Write(text)
		if cerr := conn.Close(); err == nil {
			err = cerr
		}
		closed <- err
	}()
	peer, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	var got bytes.Buffer
	piece := make([]byte, 4<<10)
	for {
		n, err := peer.Read(piece)
		got.Write(piece[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes of %d: %v", got.Len(), len(text), err)
		}
		if _, err := peer.Write([]byte("ping")); err != nil {
			t.Fatalf("after %d bytes of %d: %v", got.Len(), len(text), err)
		}
	}
	if !bytes.Equal(got.Bytes(), text) {
		t.Errorf("got %d bytes of %d", got.Len(), len(text))
	}
	peer.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
