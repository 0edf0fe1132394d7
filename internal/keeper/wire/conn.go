package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxMessageBytes bounds one message; arguments and environment of a process fit with room to spare.
const MaxMessageBytes = 16 << 20

// maxFiles bounds the open files that travel with one message.
const maxFiles = 8

// Conn frames messages on a unix socket. One goroutine may send while another receives.
type Conn struct {
	sock *net.UnixConn
}

// NewConn wraps a connected unix socket, which the Conn then owns.
func NewConn(sock *net.UnixConn) *Conn { return &Conn{sock: sock} }

// Close closes the socket; blocked calls return.
func (c *Conn) Close() error { return c.sock.Close() }

// SetDeadline bounds the calls in progress and the next ones; the zero time removes the bound.
func (c *Conn) SetDeadline(t time.Time) error { return c.sock.SetDeadline(t) }

// PeerUID tells the user at the other end.
func (c *Conn) PeerUID() (uint32, error) {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("read the peer's credentials: %w", err)
	}
	return cred.Uid, nil
}

// PeerGone tells whether the other end has closed the connection. What it sent before can still be received.
func (c *Conn) PeerGone() bool {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0
	})
	return gone || err != nil
}

// Send writes one message. The files are duplicated to the receiver and stay the caller's.
func (c *Conn) Send(message any, files ...*os.File) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode %T: %w", message, err)
	}
	if len(body) > MaxMessageBytes {
		return fmt.Errorf("message %T of %d bytes exceeds the limit of %d", message, len(body), MaxMessageBytes)
	}
	frame := make([]byte, 4+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	copy(frame[4:], body)
	if len(files) == 0 {
		_, err = c.sock.Write(frame)
		return err
	}
	fds := make([]int, len(files))
	for i, file := range files {
		fds[i] = int(file.Fd())
	}
	n, _, err := c.sock.WriteMsgUnix(frame, syscall.UnixRights(fds...), nil)
	if err != nil {
		return err
	}
	if n < len(frame) {
		_, err = c.sock.Write(frame[n:])
	}
	return err
}

// Receive reads one message into the value and returns the files that came with it, which are the caller's to close.
func (c *Conn) Receive(message any) ([]*os.File, error) {
	var head [4]byte
	files, err := c.readHead(head[:])
	if err != nil {
		closeAll(files)
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > MaxMessageBytes {
		closeAll(files)
		return nil, fmt.Errorf("peer announced a message of %d bytes; the limit is %d", size, MaxMessageBytes)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.sock, body); err != nil {
		closeAll(files)
		return nil, err
	}
	if err := json.Unmarshal(body, message); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("decode %T: %w", message, err)
	}
	return files, nil
}

func (c *Conn) readHead(head []byte) ([]*os.File, error) {
	var files []*os.File
	oob := make([]byte, syscall.CmsgSpace(4*maxFiles))
	for filled := 0; filled < len(head); {
		n, oobn, _, _, err := c.sock.ReadMsgUnix(head[filled:], oob)
		if oobn > 0 {
			received, perr := parseFiles(oob[:oobn])
			files = append(files, received...)
			err = errors.Join(err, perr)
		}
		if err != nil {
			return files, err
		}
		if n == 0 {
			if filled > 0 {
				return files, io.ErrUnexpectedEOF
			}
			return files, io.EOF
		}
		filled += n
	}
	return files, nil
}

func parseFiles(oob []byte) ([]*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return files, fmt.Errorf("parse passed files: %w", err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}
