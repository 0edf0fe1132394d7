package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killDaemon kills the server as the kernel would, and returns when it is gone.
func killDaemon(t *testing.T, pidFile string) {
	t.Helper()
	data, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
			return fmt.Errorf("process %d is still there", pid)
		}
		return nil
	})
}

func TestKilledServerLosesNothing(t *testing.T) {
	ns := namespace(t)
	node := strings.Fields(kubectl(t, "get", "nodes", "-o", `jsonpath={.items[*].metadata.name}`))[0]
	apply(t, ns, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: lines}
spec:
  replicas: 8
  selector: {matchLabels: {app: lines}}
  template:
    metadata: {labels: {app: lines}}
    spec: {nodeName: %s, terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", args: [lines, 5ms]}]}
`, node))
	kubectl(t, "-n", ns, "rollout", "status", "deployment", "lines", "--timeout=60s")
	apply(t, ns, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: seven}, spec: {nodeName: %s, restartPolicy: Never, containers: [{name: c, image: "clipper.dev/demo:v1", args: [exit, "7", 10s]}]}}`, node))
	expect(t, 20*time.Second, ns, "pod/seven", "{.status.phase}", "Running")
	const identity = `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}{"\n"}{end}`
	before := kubectl(t, "-n", ns, "get", "pods", "-l", "app=lines", "-o", identity)

	killDaemon(t, "/run/clipper-"+clusterName+"/clipper.pid")
	time.Sleep(11 * time.Second) // "seven" ends meanwhile
	if out, err := program("up"); err != nil {
		t.Fatalf("clipper up: %v\n%s", err, out)
	}

	expect(t, 20*time.Second, ns, "pod/seven", "{.status.containerStatuses[0].state.terminated.exitCode}", "7")
	if after := kubectl(t, "-n", ns, "get", "pods", "-l", "app=lines", "-o", identity); after != before {
		t.Errorf("the containers are others:\n%s\nbefore:\n%s", after, before)
	}
	for _, pod := range strings.Fields(kubectl(t, "-n", ns, "get", "pods", "-l", "app=lines", "-o", "name")) {
		out := kubectl(t, "-n", ns, "logs", pod)
		n := 0
		for line := range strings.Lines(out) {
			if n++; line != fmt.Sprintf("line %d\n", n) {
				t.Errorf("%s: line %d is %q", pod, n, line)
				break
			}
		}
		if n < 1000 {
			t.Errorf("%s has only %d lines", pod, n)
		}
	}
}
