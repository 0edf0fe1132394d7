package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// PortForward connects a stream with a port on the loopback of a network namespace; nil means the node's.
func PortForward(ctx context.Context, namespace *os.File, port int32, stream io.ReadWriteCloser) error {
	if port <= 0 || port > 65535 {
		return fmt.Errorf("invalid port %d", port)
	}
	conn, err := dialLoopback(namespace, int(port))
	if err != nil {
		return fmt.Errorf("failed to connect to localhost:%d inside namespace: %w", port, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() {
		conn.Close()
		stream.Close()
	})
	defer stop()
	toPod := make(chan struct{})
	go func() {
		defer close(toPod)
		_, _ = io.Copy(conn, stream)
		_ = conn.CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	stream.Close() // ends the other direction
	<-toPod
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the client left
	}
	return err
}

// dialLoopback connects on a thread inside the namespace: a socket stays in the one it was made in.
func dialLoopback(namespace *os.File, port int) (*net.TCPConn, error) {
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		if namespace != nil {
			runtime.LockOSThread() // never unlocked: the thread is spoiled and ends here
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
				done <- result{-1, fmt.Errorf("enter network namespace: %w", err)}
				return
			}
		}
		fd, err := connect(unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		if err != nil {
			var err6 error
			loopback := [16]byte{15: 1}
			if fd, err6 = connect(unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: loopback}); err6 == nil {
				err = nil
			}
		}
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, r.err
	}
	file := os.NewFile(uintptr(r.fd), "forwarded")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return nil, errors.New("not a TCP connection")
	}
	return tcp, nil
}

func connect(family int, to unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, to); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
