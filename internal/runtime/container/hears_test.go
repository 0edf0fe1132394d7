package container

import (
	"syscall"
	"testing"
)

func TestHears(t *testing.T) {
	const term, kill = syscall.SIGTERM, syscall.SIGKILL
	for name, c := range map[string]struct {
		status string
		signal syscall.Signal
		want   bool
	}{
		"the_first_process_without_a_handler_does_not":           {"NSpid:\t812\t1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n", term, false},
		"nor_with_a_handler_for_another_signal":                  {"NSpid:\t812\t1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000002\n", term, false},
		"the_first_process_with_a_handler_does":                  {"NSpid:\t812\t1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000004000\n", term, true},
		"a_blocked_signal_is_kept":                               {"NSpid:\t812\t1\nSigBlk:\t0000000000004000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n", term, true},
		"an_ignored_signal_is_not_waited_for":                    {"NSpid:\t812\t1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000000000\n", term, true},
		"a_further_process_of_a_namespace_ends_without_handlers": {"NSpid:\t812\t7\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n", term, true},
		"one_of_the_machine's_namespace_does":                    {"NSpid:\t812\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n", term, true},
		"a_kill_needs_no_handler":                                {"NSpid:\t812\t1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n", kill, true},
		"what_is_not_known_is_not_waited_for":                    {"", term, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hears(c.status, c.signal); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
