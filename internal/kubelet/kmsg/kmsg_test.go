package kmsg

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	inContainer = "3,900,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/clipper/pod1,task_memcg=/clipper/pod1/c,task=hog,pid=41,uid=0\n" +
		"3,901,2,-;Memory cgroup out of memory: Killed process 41 (hog) total-vm:1kB, anon-rss:1kB\n"
	ofMachine = "6,902,3,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=big one,pid=42,uid=0\n" +
		" SUBSYSTEM=memory\n" +
		"3,903,4,-;Out of memory: Killed process 42 (big one) total-vm:1kB, anon-rss:1kB, file-rss:0kB\n"
)

func TestOnlyKillsOfTheWholeMachineAreTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// A reader and a writer: nobody waits for the other.
	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var found []Victim
	if _, err := writer.WriteString(inContainer + ofMachine); err != nil {
		t.Fatal(err)
	}
	err = Follow(ctx, path, func(v Victim) {
		found = append(found, v)
		cancel()
	})
	if want := []Victim{{"big one", 42}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("got %+v, %v; want %+v", found, err, want)
	}
}

func TestALogThatIsNotThereIsAnError(t *testing.T) {
	if err := Follow(t.Context(), filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("no error")
	}
}
