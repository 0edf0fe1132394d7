// Package kmsg follows the kernel's log for processes that it has killed since the machine ran out of memory.
//
//	err := kmsg.Follow(ctx, "/dev/kmsg", func(v kmsg.Victim) { … })
//
// In flow the kernel's records from the moment on that somebody follows them; out flow the victims of kills that no control group's limit has caused.
package kmsg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Victim is a process that the kernel has killed for want of memory.
type Victim struct {
	Process string
	PID     int
}

// maxRecord is the longest record that the kernel gives.
const maxRecord = 8192

// Follow calls found for each victim until ctx ends.
func Follow(ctx context.Context, path string, found func(Victim)) error {
	// Non-blocking, so that Go's poller waits and closing wakes it.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open the kernel's log: %w", err)
	}
	defer f.Close()
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.Seek(int(fd), 0, unix.SEEK_END) }) // what was before is not news; a pipe has none
	}
	defer context.AfterFunc(ctx, func() { f.Close() })()
	var p parser
	record := make([]byte, maxRecord)
	for {
		n, err := f.Read(record)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EPIPE): // records were overwritten before they could be read
			p = parser{}
			continue
		case err != nil:
			return fmt.Errorf("read the kernel's log: %w", err)
		}
		for line := range strings.Lines(string(record[:n])) {
			if v, ok := p.line(strings.TrimSuffix(line, "\n")); ok {
				found(v)
			}
		}
	}
}

// parser puts the lines of a kill together.
type parser struct{ group, known bool }

var (
	constraint = regexp.MustCompile(`oom-kill:constraint=([^,]*)`)
	killed     = regexp.MustCompile(`Out of memory: Killed process (\d+) \((.*?)\)`)
	inGroup    = regexp.MustCompile(`Memory cgroup out of memory: Killed process \d+`)
)

// line takes in a line and tells of a victim if it names one. A kill within a control group tells so in the kernel's summary before, or in the same line.
func (p *parser) line(text string) (Victim, bool) {
	if _, message, ok := strings.Cut(text, ";"); ok {
		text = message // after the record's prefix of priority, number and time
	}
	if m := constraint.FindStringSubmatch(text); m != nil {
		p.group, p.known = m[1] == "CONSTRAINT_MEMCG", true
		return Victim{}, false
	}
	if inGroup.MatchString(text) {
		*p = parser{}
		return Victim{}, false
	}
	m := killed.FindStringSubmatch(text)
	if m == nil {
		return Victim{}, false
	}
	group := p.known && p.group
	*p = parser{}
	if group {
		return Victim{}, false
	}
	pid, err := strconv.Atoi(m[1])
	return Victim{Process: m[2], PID: pid}, err == nil
}
