package runtime

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper"
)

// helper is a runtime in a process of its own.
type helper struct {
	cmd  *exec.Cmd
	conn *grpc.ClientConn
}

func (n *node) startHelper() *helper {
	n.t.Helper()
	config := n.config
	config.Network, config.Logger = nil, nil
	text, err := json.Marshal(config)
	if err != nil {
		n.t.Fatal(err)
	}
	h := &helper{cmd: exec.Command(os.Args[0])}
	h.cmd.Env = append(os.Environ(), helperEnv+"="+string(text))
	h.cmd.Stderr = os.Stderr
	if err := h.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	if h.conn, err = grpc.NewClient("unix://"+n.config.Socket, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	n.eventually("the helper serves", func() bool {
		_, err := runtimeapi.NewRuntimeServiceClient(h.conn).Version(ctx, &runtimeapi.VersionRequest{})
		return err == nil
	})
	return h
}

func (h *helper) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
	h.conn.Close()
}

// TestKillsInTheMiddleLeaveNothingBehind kills the runtime at random moments while pods come and go.
// What it says of every container afterwards must be right, and after all pods are removed nothing may be left.
func TestKillsInTheMiddleLeaveNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	n := newNode(t)
	survivor := n.runPod()
	counter := survivor.run("count")
	n.stop()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 8 {
		h := n.startHelper()
		client := runtimeapi.NewRuntimeServiceClient(h.conn)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { n.churn(ctx, client) })
		}
		// The moment of the kill is the point of the test; there is no event to wait for.
		time.Sleep(time.Duration(50+random.IntN(300)) * time.Millisecond)
		h.kill()
		cancel()
		wg.Wait()
	}
	n.start()
	if got := n.status(counter); got.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container that was left alone is %v", got)
	}
	n.checkTruth()
	pods, err := n.ListPodSandbox(context.Background(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if _, err := n.RemovePodSandbox(context.Background(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			t.Errorf("remove sandbox: %v", err)
		}
	}
	for what, pattern := range map[string]string{
		"sandbox":          filepath.Join(n.config.StateDir, "sandboxes", "*"),
		"container":        filepath.Join(n.config.StateDir, "containers", "*"),
		"keeper's record":  filepath.Join(n.config.StateDir, "keeper", "containers", "*"),
		"mount point":      filepath.Join(n.config.RunDir, "keeper", "mnt", "rootfs", "*"),
		"shared memory":    filepath.Join(n.config.RunDir, "keeper", "mnt", "shm", "*"),
		"pipe":             filepath.Join(n.config.RunDir, "keeper", "pipes", "*"),
		"container state":  filepath.Join(n.config.RunDir, "keeper", "libcontainer", "*"),
		"container cgroup": "/sys/fs/cgroup/*/" + n.config.CgroupRoot + "/pod*/*/cgroup.procs",
	} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("%s left: %v", what, left)
		}
	}
}

// churn runs and removes pods until the context ends; calls fail when the runtime is killed.
func (n *node) churn(ctx context.Context, client runtimeapi.RuntimeServiceClient) {
	for ctx.Err() == nil {
		config := n.podConfig()
		made, err := client.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
		if err != nil {
			return
		}
		p := &pod{node: n, id: made.PodSandboxId, config: config}
		for _, args := range [][]string{{"pause"}, {"exit", "3"}} {
			created, err := client.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: p.id, Config: p.containerConfig(args...), SandboxConfig: config})
			if err != nil {
				return
			}
			if _, err := client.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.ContainerId}); err != nil {
				return
			}
		}
		if _, err := client.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
			return
		}
		if _, err := client.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
			return
		}
	}
}

// checkTruth compares what the runtime says of its containers with the processes.
func (n *node) checkTruth() {
	n.t.Helper()
	list, err := n.ListContainers(context.Background(), &runtimeapi.ListContainersRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range list.Containers {
		status := n.status(c.Id)
		switch status.State {
		case runtimeapi.ContainerState_CONTAINER_RUNNING:
			pids, _ := filepath.Glob("/sys/fs/cgroup/pids/" + n.config.CgroupRoot + "/pod*/" + c.Id + "/cgroup.procs")
			if data, err := os.ReadFile(append(pids, "none")[0]); err != nil || len(data) == 0 {
				// It may just have ended: then the runtime must know in a moment.
				n.waitExit(c.Id)
			}
		case runtimeapi.ContainerState_CONTAINER_EXITED:
			if status.ExitCode != 3 && status.ExitCode != 137 {
				n.t.Errorf("a container ended with code %d, reason %q: %s", status.ExitCode, status.Reason, status.Message)
			}
		}
	}
}

func TestASandboxIsGoneWithWhatWasBeingStartedInIt(t *testing.T) {
	n := newNode(t)
	client := keeper.NewClient(filepath.Join(n.config.RunDir, "keeper"))
	defer client.Close()
	for i := range 20 {
		p := n.runPod()
		id := p.create(p.containerConfig("pause"))
		started := make(chan struct{})
		go func() {
			defer close(started)
			// Whether it starts depends on who comes first.
			_, _ = n.StartContainer(context.Background(), &runtimeapi.StartContainerRequest{ContainerId: id})
		}()
		time.Sleep(time.Duration(i) * time.Millisecond)
		if err := client.RemoveSandbox(t.Context(), p.id); err != nil {
			t.Fatal(err)
		}
		state, err := client.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range state.Containers {
			if c.Sandbox == p.id && c.Exit == nil {
				t.Errorf("container %s runs in a sandbox that is removed", c.ID)
			}
		}
		<-started
	}
}
