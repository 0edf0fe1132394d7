package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// daemonPID is the process ID of a daemon.
func daemonPID(t *testing.T, pidFile string) int {
	t.Helper()
	data, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// killDaemon kills the server as the kernel would, and returns when it is gone.
func killDaemon(t *testing.T, pidFile string) {
	t.Helper()
	pid := daemonPID(t, pidFile)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitExit(t, pid)
}

// awaitExit returns when a process has ended, with all that it held.
func awaitExit(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	eventually(t, 10*time.Second, func() error {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
		if err == nil && n == 0 {
			err = fmt.Errorf("process %d is still there", pid)
		}
		return err
	})
}

// processOf finds the first process of a pod's only container, by its cgroup.
func processOf(t *testing.T, pod *corev1.Pod) int {
	t.Helper()
	_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	first, began := 0, uint64(math.MaxUint64)
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		cgroups, _ := os.ReadFile(filepath.Join(dir, "cgroup")) // it may have ended
		if !strings.Contains(string(cgroups), id) {
			continue
		}
		// Not the lowest number: numbers begin again.
		if start, ok := startOf(dir); ok && start < began {
			first, began = pid, start
		}
	}
	if first == 0 {
		t.Fatalf("no process is in a cgroup of %s, container %s; its pod is now\n%s", pod.Name, id, kubectl(t, "-n", pod.Namespace, "get", "pod", pod.Name, "-o", "yaml"))
	}
	return first
}

// startOf is when a process began, in the kernel's ticks (starttime, proc(5)); false if it has ended.
func startOf(dir string) (uint64, bool) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the name before may have blanks
	if len(fields) < 20 {
		return 0, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return start, err == nil
}

// The pods that live through the daemon's death, by their names' beginning: what they run, and how many there are of each.
var survivors = []struct {
	name  string
	count int
	spec  string
}{
	{"lines", 18, `args: [lines, 2ms]}]`},
	{"typed", 4, `args: [echo], stdin: true, tty: true}]`},
	{"seven", 2, `args: [exit, "7", 1h]}], restartPolicy: Never`},
	{"again", 2, `args: [exit, "7", 1h]}], restartPolicy: Always`},
	{"eaten", 4, `args: [eat, "100", 1h], resources: {limits: {memory: 48Mi}}}], restartPolicy: Never`},
}

func startSurvivors(t *testing.T, ns, node string) map[string]corev1.Pod {
	t.Helper()
	var manifest strings.Builder
	all := 0
	for _, s := range survivors {
		for i := range s.count {
			fmt.Fprintf(&manifest, "---\n{apiVersion: v1, kind: Pod, metadata: {name: %s-%d}, spec: {nodeName: %s, terminationGracePeriodSeconds: 1, containers: [{name: c, image: \"clipper.dev/demo:v1\", %s}}\n", s.name, i, node, s.spec)
			all++
		}
	}
	apply(t, ns, manifest.String())
	return awaitPods(t, ns, "", time.Minute, func(pods map[string]corev1.Pod) error {
		if len(pods) < all {
			return fmt.Errorf("%d of %d pods are there", len(pods), all)
		}
		for _, p := range pods {
			if p.Status.Phase != corev1.PodRunning {
				return fmt.Errorf("%s is %s", p.Name, p.Status.Phase)
			}
		}
		return nil
	})
}

// TestKilledServerLosesNothing kills the server while 30 pods run. While it is dead some write without pause, some have a terminal,
// some exit and some run out of memory.
func TestKilledServerLosesNothing(t *testing.T) {
	ns := namespace(t)
	node := strings.Fields(kubectl(t, "get", "nodes", "-o", `jsonpath={.items[*].metadata.name}`))[0]
	before := startSurvivors(t, ns, node)
	objects := everyObject(t)
	session := openTerminal(t, "-n", ns, "exec", "-it", "lines-0", "--", "/demo", "echo")
	session.expect(t, "listening")
	written := map[string]int{}
	for name := range before {
		if strings.HasPrefix(name, "lines") {
			written[name] = checkLines(t, ns, name)
		}
	}
	processes := map[string]int{}
	for name, pod := range before {
		processes[name] = processOf(t, &pod)
	}

	killDaemon(t, "/run/clipper-"+clusterName+"/clipper.pid")
	for name, pid := range processes {
		switch name[:5] {
		case "seven", "again", "eaten": // their process waits for a signal to do what it is for
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			awaitExit(t, pid)
		}
	}
	if err := session.cmd.Wait(); err == nil {
		t.Error("the exec session ended as if all were well")
	}
	if out, err := program("up"); err != nil {
		t.Fatalf("clipper up: %v\n%s", err, out)
	}

	after := awaitPods(t, ns, "", 30*time.Second, func(pods map[string]corev1.Pod) error {
		for name, p := range pods {
			if err := survived(before[name], p); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
	for name := range before {
		if _, ok := after[name]; !ok {
			t.Errorf("pod %s is gone", name)
		}
	}
	for name, pid := range processes {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil && (name[:5] == "lines" || name[:5] == "typed") {
			t.Errorf("%s: process %d is gone", name, pid)
		}
	}
	for name, n := range written {
		if now := checkLines(t, ns, name); now <= n {
			t.Errorf("%s wrote %d lines before the kill, and has %d", name, n, now)
		}
	}
	t.Run("terminals_go_on", func(t *testing.T) {
		s := openTerminal(t, "-n", ns, "attach", "-it", "typed-0")
		if _, err := s.tty.WriteString("still here\r"); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "heard still here")
	})
	t.Run("every_object_is_there", func(t *testing.T) {
		now := everyObject(t)
		for key, uid := range objects {
			if now[key] != uid {
				t.Errorf("%s was %s, and is %q", key, uid, now[key])
			}
		}
	})
	t.Run("what_Clipper_did_not_start_is_untouched", func(t *testing.T) {
		if err := stranger.untouched(); err != nil {
			t.Error(err)
		}
	})
}

// survived tells what of a pod is not as it was, or not as it must be after what happened to it.
func survived(was, is corev1.Pod) error {
	if len(is.Status.ContainerStatuses) == 0 {
		return fmt.Errorf("its status knows no container")
	}
	old, c := was.Status.ContainerStatuses[0], is.Status.ContainerStatuses[0]
	ended := c.State.Terminated
	switch was.Name[:5] {
	case "seven":
		if ended == nil || ended.ExitCode != 7 || ended.Reason != "Error" {
			return fmt.Errorf("it did not end by Error 7: %+v", c.State)
		}
	case "eaten":
		if ended == nil || ended.Reason != "OOMKilled" {
			return fmt.Errorf("it was not OOMKilled: %+v", c.State)
		}
	case "again":
		last := c.LastTerminationState.Terminated
		if c.RestartCount != 1 || last == nil || last.ExitCode != 7 || last.Reason != "Error" || last.ContainerID != old.ContainerID {
			return fmt.Errorf("it was not restarted once after Error 7: %+v", c)
		}
	default:
		if c.ContainerID != old.ContainerID || c.RestartCount != 0 || c.State.Running == nil || !c.State.Running.StartedAt.Equal(&old.State.Running.StartedAt) {
			return fmt.Errorf("it is another container: %+v", c)
		}
	}
	return nil
}

// checkLines asserts that a pod's log misses no line, and returns how many there are.
func checkLines(t *testing.T, ns, pod string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(kubectl(t, "-n", ns, "logs", pod)) {
		if n++; line != fmt.Sprintf("line %d\n", n) {
			t.Errorf("%s: line %d is %q", pod, n, line)
			break
		}
	}
	return n
}

// everyObject returns the UIDs of all objects but those that come and go by themselves.
func everyObject(t *testing.T) map[string]string {
	t.Helper()
	objects := map[string]string{}
	for _, name := range strings.Fields(kubectl(t, "api-resources", "--verbs=list", "-o", "name")) {
		if strings.HasPrefix(name, "events") || strings.HasPrefix(name, "leases") || strings.HasSuffix(name, ".metrics.k8s.io") {
			continue
		}
		list, err := metadataClient(t).Resource(resourceOf(t, name)).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatalf("list %s: %v", name, err)
		}
		for _, o := range list.Items {
			objects[name+" "+o.Namespace+"/"+o.Name] = string(o.UID)
		}
	}
	return objects
}

// session is a kubectl with a terminal.
type session struct {
	cmd   *exec.Cmd
	tty   *os.File
	lines <-chan string
}

// openTerminal starts kubectl on a terminal of 33 rows and 99 columns.
func openTerminal(t *testing.T, args ...string) *session {
	t.Helper()
	cmd := command(t.Context(), args...)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(tty); s.Scan(); {
			select {
			case lines <- s.Text():
			default: // nobody reads any more
			}
		}
	}()
	t.Cleanup(func() { tty.Close() })
	return &session{cmd: cmd, tty: tty, lines: lines}
}

func (s *session) expect(t *testing.T, want string) { t.Helper(); awaitLine(t, s.lines, want) }
