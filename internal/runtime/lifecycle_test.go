package runtime

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper"
)

func TestContainersOutliveTheRuntime(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	gate := filepath.Join(t.TempDir(), "go")
	counter := p.run("count")
	config := p.containerConfig("exit-when", "/gate/go", "7")
	config.Mounts = []*runtimeapi.Mount{{HostPath: filepath.Dir(gate), ContainerPath: "/gate", Readonly: true}}
	exits := p.start(config)
	before := n.status(counter)
	n.stop()
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n.eventually("the keeper records the exit", func() bool {
		data, err := os.ReadFile(filepath.Join(n.config.StateDir, "keeper", "containers", exits+".json"))
		return err == nil && strings.Contains(string(data), `"Code":7`)
	})
	n.start()
	after := n.status(counter)
	if after.State != runtimeapi.ContainerState_CONTAINER_RUNNING || after.StartedAt != before.StartedAt {
		t.Errorf("the container did not run on: %v", after)
	}
	if got := n.status(exits); got.State != runtimeapi.ContainerState_CONTAINER_EXITED || got.ExitCode != 7 {
		t.Errorf("the exit while nobody looked is %v", got)
	}
	if _, err := n.StopContainer(context.Background(), &runtimeapi.StopContainerRequest{ContainerId: counter}); err != nil {
		t.Fatal(err)
	}
	checkCount(t, n.log(counter))
	if got := n.exec(p.run("pause"), "/probe", "hostname"); string(got.Stdout) != p.config.Hostname+"\n" {
		t.Errorf("a new container in the old sandbox has host name %q", got.Stdout)
	}
}

// checkCount makes sure that no line is missing; the last one may be cut.
func checkCount(t *testing.T, log string) {
	t.Helper()
	lines := strings.Split(log, "\n")
	for i, line := range lines[:max(0, len(lines)-2)] {
		if line != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
	if len(lines) < 10 {
		t.Errorf("the log has only %d lines", len(lines))
	}
}

func TestContainersOutliveTheKeeper(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	gate := filepath.Join(t.TempDir(), "go")
	config := p.containerConfig("exit-when", "/gate/go", "9")
	config.Mounts = []*runtimeapi.Mount{{HostPath: filepath.Dir(gate), ContainerPath: "/gate", Readonly: true}}
	exits := p.start(config)
	counter := p.run("count")
	before := n.status(counter)
	killKeeper(t, n)
	n.eventually("a new keeper serves", func() bool {
		_, err := n.ExecSync(context.Background(), &runtimeapi.ExecSyncRequest{ContainerId: counter, Cmd: []string{"/probe", "say"}})
		return err == nil
	})
	if after := n.status(counter); after.State != runtimeapi.ContainerState_CONTAINER_RUNNING || after.StartedAt != before.StartedAt {
		t.Errorf("the container did not run on: %v", after)
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := n.waitExit(exits); got.ExitCode != 9 {
		t.Errorf("an adopted container's exit is %v", got)
	}
	// The sandbox still takes containers, in the same namespaces.
	if got := n.exec(p.run("pause"), "/probe", "hostname"); string(got.Stdout) != p.config.Hostname+"\n" {
		t.Errorf("a new container in the old sandbox has host name %q", got.Stdout)
	}
}

func TestSharedProcessNamespaceOutlivesTheKeeper(t *testing.T) {
	n := newNode(t)
	share := func(config *runtimeapi.PodSandboxConfig) {
		config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	}
	used, unused := n.runPod(share), n.runPod(share)
	id := used.ready(used.containerConfig("pause"))
	reaper := strings.TrimSpace(string(n.exec(id, "/probe", "link", "/proc/1/ns/pid").Stdout))
	killKeeper(t, n)
	n.eventually("the sandbox without a container is found lost", func() bool {
		response, err := n.PodSandboxStatus(context.Background(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: unused.id})
		return err == nil && response.Status.State == runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	})
	if got := strings.TrimSpace(string(n.exec(used.ready(used.containerConfig("pause")), "/probe", "link", "/proc/1/ns/pid").Stdout)); got != reaper {
		t.Errorf("a new container is in %q, the old one in %q", got, reaper)
	}
	for _, p := range []*pod{used, unused} {
		if _, err := n.RemovePodSandbox(context.Background(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Fatal(err)
		}
	}
	n.eventually("no reaper is left", func() bool {
		left, _ := filepath.Glob("/sys/fs/cgroup/pids/" + n.config.CgroupRoot + "/pod*/*/cgroup.procs")
		return len(left) == 0
	})
}

func killKeeper(t *testing.T, n *node) {
	t.Helper()
	client := keeper.NewClient(filepath.Join(n.config.RunDir, "keeper"))
	defer client.Close()
	hello, err := client.Hello(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(hello.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestKeeperHandsOverToAnotherBuild(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	counter := p.run("count")
	config := p.containerConfig("terminal")
	config.Tty, config.Stdin = true, true
	terminal := p.start(config)
	first := keeperPID(t, n)
	// Another build: the same program with something at its end.
	program, err := os.ReadFile(n.config.KeeperPath)
	if err != nil {
		t.Fatal(err)
	}
	n.config.KeeperPath = filepath.Join(t.TempDir(), "keeper")
	if err := os.WriteFile(n.config.KeeperPath, append(program, "newer"...), 0o755); err != nil {
		t.Fatal(err)
	}
	n.restart()
	if second := keeperPID(t, n); second != first {
		t.Errorf("the keeper's process changed from %d to %d", first, second)
	}
	if got := n.status(terminal); got.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container with a terminal is %v", got)
	}
	attached := n.attach(terminal, true)
	attached.write("are you there\n")
	attached.expect("heard are you there")
	attached.write("quit\n")
	if got := n.waitExit(terminal); got.ExitCode != 0 {
		t.Errorf("the container with a terminal ended with %v", got)
	}
	if _, err := n.StopContainer(context.Background(), &runtimeapi.StopContainerRequest{ContainerId: counter}); err != nil {
		t.Fatal(err)
	}
	if got := n.status(counter).ExitCode; got != 137 {
		t.Errorf("a killed container's code is %d", got)
	}
	checkCount(t, n.log(counter))
}

func keeperPID(t testing.TB, n *node) int {
	t.Helper()
	client := keeper.NewClient(filepath.Join(n.config.RunDir, "keeper"))
	defer client.Close()
	hello, err := client.Hello(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return hello.PID
}

func TestOutOfMemoryIsTheReason(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	config := p.containerConfig("eat")
	config.Linux.Resources.MemoryLimitInBytes = 32 << 20
	got := n.waitExit(p.start(config))
	if got.Reason != "OOMKilled" || got.ExitCode != 137 {
		t.Errorf("ended with code %d, reason %q", got.ExitCode, got.Reason)
	}
}

func TestStop(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	stop := func(id string, grace int64) *runtimeapi.ContainerStatus {
		if _, err := n.StopContainer(context.Background(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: grace}); err != nil {
			t.Fatal(err)
		}
		return n.status(id)
	}
	t.Run("asks_with_the_stop_signal_first", func(t *testing.T) {
		config := p.containerConfig("pause")
		config.StopSignal = runtimeapi.Signal_SIGUSR1
		if got := stop(p.ready(config), 10); got.ExitCode != 10 || got.StopSignal != runtimeapi.Signal_SIGUSR1 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("waits_for_a_program_that_does_not_hear_yet", func(t *testing.T) {
		if got := stop(p.ready(p.containerConfig("deaf", "300ms")), 60); got.ExitCode != 10 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("loses_no_signal_at_the_instant_of_the_start", func(t *testing.T) {
		for range 20 {
			if got := stop(p.run("pause"), 60); got.ExitCode == 137 {
				t.Errorf("got %v", got)
			}
		}
	})
	t.Run("kills_after_the_grace", func(t *testing.T) {
		if got := stop(p.ready(p.containerConfig("sleep")), 1); got.ExitCode != 137 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("kills_a_program_that_never_hears", func(t *testing.T) {
		if got := stop(p.ready(p.containerConfig("deaf", "1h")), 1); got.ExitCode != 137 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("kills_at_once_without_grace", func(t *testing.T) {
		if got := stop(p.run("pause"), 0); got.ExitCode != 137 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("can_be_repeated", func(t *testing.T) {
		id := p.run("exit", "4")
		n.waitExit(id)
		if got := stop(id, 5); got.ExitCode != 4 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("of_something_unknown_succeeds", func(t *testing.T) {
		if _, err := n.StopContainer(context.Background(), &runtimeapi.StopContainerRequest{ContainerId: "nobody"}); err != nil {
			t.Error(err)
		}
	})
}

func TestNothingStartsInASandboxThatIsStopped(t *testing.T) {
	n := newNode(t)
	for range 20 {
		p := n.runPod()
		id := p.create(p.containerConfig("sleep"))
		var starting sync.WaitGroup
		starting.Go(func() {
			_, _ = n.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}) // either may come first
		})
		time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
		if _, err := n.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
			t.Fatal(err)
		}
		before := n.status(id).State
		starting.Wait()
		if after := n.status(id).State; after != before || after == runtimeapi.ContainerState_CONTAINER_RUNNING {
			t.Fatalf("the container is %v when its sandbox has stopped, and then %v", before, after)
		}
	}
}

func TestStartFailureIsRecorded(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	config := p.containerConfig()
	config.Command = []string{"/no/such/program"}
	id := p.create(config)
	_, err := n.StartContainer(context.Background(), &runtimeapi.StartContainerRequest{ContainerId: id})
	if err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Errorf("start of a missing program: %v", err)
	}
	got := n.status(id)
	if got.State != runtimeapi.ContainerState_CONTAINER_EXITED || got.ExitCode != 128 || got.Reason != "StartError" {
		t.Errorf("status is %v", got)
	}
	if _, err := n.RemoveContainer(context.Background(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Error(err)
	}
	if _, err := n.ContainerStatus(context.Background(), &runtimeapi.ContainerStatusRequest{ContainerId: id}); status.Code(err) != codes.NotFound {
		t.Errorf("status of a removed container: %v", err)
	}
}

func TestProcessesThatAContainerLeavesEndWithIt(t *testing.T) {
	n := newNode(t)
	p := n.runPod(func(config *runtimeapi.PodSandboxConfig) {
		config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_NODE
	})
	id := p.run("spawn", "sleep")
	n.waitExit(id)
	tasks := filepath.Join("/sys/fs/cgroup/pids", p.config.Linux.CgroupParent, id, "cgroup.procs")
	if data, err := os.ReadFile(tasks); err == nil {
		t.Errorf("processes left: %s", data)
	}
}

// A process that is on its way into a container when that ends must not keep the kernel from ending it,
// as one does that nobody waits for.
func TestContainersEndWhileProcessesEnterThem(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	for attempt := range uint32(8) {
		config := p.containerConfig("pause")
		config.Metadata.Attempt = attempt
		id := p.ready(config)
		var entering sync.WaitGroup
		for range 8 {
			entering.Go(func() {
				for err := error(nil); err == nil; {
					_, err = n.ExecSync(context.Background(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"/probe", "say", "hi"}, Timeout: 10})
				}
			})
		}
		if _, err := n.StopContainer(context.Background(), &runtimeapi.StopContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		entering.Wait()
		n.waitExit(id)
	}
	for _, name := range n.keeperChildren() {
		if strings.HasPrefix(name, "runc:[") {
			t.Errorf("nobody waits for %s", name)
		}
	}
}

// keeperChildren are the names of the keeper's child processes.
func (n *node) keeperChildren() []string {
	n.t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", keeperPID(n.t, n)))
	if err != nil || len(lists) == 0 {
		n.t.Fatalf("the keeper's children are not known: %v", err)
	}
	var names []string
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			n.t.Fatal(err)
		}
		for child := range strings.FieldsSeq(string(children)) {
			if comm, err := os.ReadFile(filepath.Join("/proc", child, "comm")); err == nil {
				names = append(names, strings.TrimSpace(string(comm)))
			}
		}
	}
	return names
}

func TestPodSharesItsProcesses(t *testing.T) {
	n := newNode(t)
	p := n.runPod(func(config *runtimeapi.PodSandboxConfig) {
		config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	})
	first := p.run("pause")
	got := p.output(p.containerConfig("list", "/proc/1"))
	if !strings.Contains(got, "/proc/1") {
		t.Errorf("the first process is not seen: %q", got)
	}
	comm := n.exec(first, "/probe", "read", "/proc/1/comm")
	if string(comm.Stdout) != "pause\n" {
		t.Errorf("the first process is %q", comm.Stdout)
	}
	// The first container's process must be visible to a second one.
	second := p.run("pause")
	seen := string(n.exec(second, "/probe", "list", "/proc").Stdout)
	count := 0
	for line := range strings.Lines(seen) {
		if strings.HasSuffix(strings.TrimSpace(line), "/cmdline") && strings.Count(line, "/") == 3 {
			if _, err := strconv.Atoi(strings.Split(line, "/")[2]); err == nil {
				count++
			}
		}
	}
	if count < 3 {
		t.Errorf("only %d processes are seen", count)
	}
}

func TestEventsTellWhatHappens(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := n.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Version(ctx, &runtimeapi.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // the subscription has no acknowledgement
	p := n.runPod()
	id := p.run("exit", "5")
	var kinds []string
	for {
		event, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %v: %v", kinds, err)
		}
		if event.ContainerId != id {
			continue
		}
		kinds = append(kinds, event.ContainerEventType.String())
		if event.ContainerEventType == runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT {
			if event.PodSandboxStatus.Id != p.id || event.ContainersStatuses[0].ExitCode != 5 {
				t.Errorf("event is %v", event)
			}
			break
		}
	}
	if kinds[0] != "CONTAINER_CREATED_EVENT" {
		t.Errorf("events are %v", kinds)
	}
}
