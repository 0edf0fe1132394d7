package guard

/*
#cgo CFLAGS: -Wall -O2
#include <stdlib.h>
#include "guard.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"syscall"
)

// filterBytes is the size of one instruction of a filter (struct sock_filter).
const filterBytes = 8

// ReaperEnv is the environment variable that makes this binary the reaper.
const ReaperEnv = "_CLIPPER_REAPER=1"

// EntryEnv is the environment variable that makes this binary a container's entry.
const EntryEnv = "_CLIPPER_ENTRY=1"

// Start begins the guard thread, which waits for one byte on the control descriptor, installs the
// filter and answers with an errno as four bytes of native order.
func Start(control int, filter []byte, flags uint32) error {
	if err := check(filter); err != nil {
		return err
	}
	errno := C.clipper_guard_start(C.int(control), C.CBytes(filter), C.ushort(len(filter)/filterBytes), C.uint(flags))
	if errno != 0 {
		return fmt.Errorf("start the seccomp guard: %w", syscall.Errno(errno))
	}
	return nil
}

// Install puts the filter on all threads of this process at once.
func Install(filter []byte, flags uint32) error {
	if err := check(filter); err != nil {
		return err
	}
	program := C.CBytes(filter)
	defer C.free(program)
	if errno := C.clipper_guard_install(program, C.ushort(len(filter)/filterBytes), C.uint(flags)); errno != 0 {
		return fmt.Errorf("install the seccomp filter: %w", syscall.Errno(errno))
	}
	return nil
}

func check(filter []byte) error {
	if len(filter) == 0 || len(filter)%filterBytes != 0 || len(filter)/filterBytes > 4096 {
		return errors.New("malformed seccomp filter")
	}
	return nil
}
