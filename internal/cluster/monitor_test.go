package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestGosMonitorWakesUpLessOften(t *testing.T) {
	if err := easeMonitor(); errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	thread, err := monitorThread()
	if err != nil {
		t.Fatal(err)
	}
	slack, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", thread))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(slack)), fmt.Sprint(monitorSlack.Nanoseconds()); got != want {
		t.Errorf("the slack is %s ns, not %s", got, want)
	}
	// The thread is one that runs no goroutines: the first thread, on which tests may run, keeps what it has.
	if own, err := os.ReadFile("/proc/self/timerslack_ns"); err != nil || string(own) == string(slack) {
		t.Errorf("the first thread's slack is %s (%v)", own, err)
	}
}
