package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// start runs kubectl in the background until the test ends; it returns what it prints, line by line.
func start(t *testing.T, args ...string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, *clipper, append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 10000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			default: // nobody reads any more
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done; cmd.Wait() })
	return lines
}

func awaitLine(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("the output ended before %q", want)
			}
			if strings.Contains(line, want) {
				return
			}
		case <-timeout:
			t.Fatalf("%q did not come", want)
		}
	}
}

func TestKubectl(t *testing.T) {
	ns := namespace(t)
	deployWeb(t, ns, 2)
	pod := strings.Fields(kubectl(t, "-n", ns, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"))[0]

	t.Run("logs_follow", func(t *testing.T) {
		kubectl(t, "-n", ns, "run", "talks", "--image=clipper.dev/demo:v1", "--restart=Never", "--", "lines", "10ms")
		expect(t, 20*time.Second, ns, "pod/talks", "{.status.phase}", "Running")
		awaitLine(t, start(t, "-n", ns, "logs", "-f", "talks"), "line 300")
		kubectl(t, "-n", ns, "delete", "pod", "talks", "--grace-period=0", "--force")
	})
	t.Run("exec_has_a_terminal_of_the_right_size", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), *clipper, "kubectl", "-n", ns, "exec", "-it", pod, "--", "/demo", "terminal")
		cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
		terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
		if err != nil {
			t.Fatal(err)
		}
		lines := make(chan string, 100)
		go func() {
			defer close(lines)
			for s := bufio.NewScanner(terminal); s.Scan(); {
				lines <- s.Text()
			}
		}()
		awaitLine(t, lines, "33 rows, 99 columns")
		if err := pty.Setsize(terminal, &pty.Winsize{Rows: 44, Cols: 88}); err != nil {
			t.Fatal(err)
		}
		awaitLine(t, lines, "44 rows, 88 columns")
		if _, err := terminal.WriteString("\x03"); err != nil { // Ctrl-C, which the terminal makes a signal
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("exec -it: %v", err)
		}
		terminal.Close()
	})
	t.Run("exec_returns_the_exit_code", func(t *testing.T) {
		_, err := tryKubectl(t, "-n", ns, "exec", pod, "--", "/demo", "exit", "7")
		if err == nil || !strings.Contains(err.Error(), "exit status 7") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("port_forward", func(t *testing.T) {
		lines := start(t, "-n", ns, "port-forward", "service/web", "28080:80")
		awaitLine(t, lines, "Forwarding from")
		if version, err := get("http://127.0.0.1:28080/version"); err != nil || version != "v1" {
			t.Errorf("the answer is %q, %v", version, err)
		}
	})
	t.Run("describe_and_explain", func(t *testing.T) {
		if out := kubectl(t, "-n", ns, "describe", "pod", pod); !strings.Contains(out, "Successfully assigned") || !strings.Contains(out, "Started container") && !strings.Contains(out, "Container started") {
			t.Errorf("describe says\n%s", out)
		}
		if out := kubectl(t, "explain", "deployment.spec.strategy"); !strings.Contains(out, "rollingUpdate") {
			t.Errorf("explain says\n%s", out)
		}
	})
	t.Run("apply_on_the_server_reports_a_conflict", func(t *testing.T) {
		const manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {name: owned}, data: {key: %s}}"
		for manager, value := range map[string]string{"one": "a"} {
			if _, err := kubectlWith(t, fmt.Sprintf(manifest, value), "-n", ns, "apply", "--server-side", "--field-manager="+manager, "-f", "-"); err != nil {
				t.Fatal(err)
			}
		}
		_, err := kubectlWith(t, fmt.Sprintf(manifest, "b"), "-n", ns, "apply", "--server-side", "--field-manager=two", "-f", "-")
		if err == nil || !strings.Contains(err.Error(), `conflict with "one"`) {
			t.Errorf("the error is %v", err)
		}
		if _, err := kubectlWith(t, fmt.Sprintf(manifest, "b"), "-n", ns, "apply", "--server-side", "--force-conflicts", "--field-manager=two", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	t.Run("diff_shows_what_would_change", func(t *testing.T) {
		apply(t, ns, "{apiVersion: v1, kind: ConfigMap, metadata: {name: differs}, data: {key: a}}")
		out, err := kubectlWith(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: differs}, data: {key: b}}", "-n", ns, "diff", "-f", "-")
		if err == nil || !strings.Contains(out, "+  key: b") {
			t.Errorf("diff: %v\n%s", err, out)
		}
	})
	t.Run("wait_label_and_auth", func(t *testing.T) {
		kubectl(t, "-n", ns, "wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
		kubectl(t, "-n", ns, "label", "deployment", "web", "tier=front")
		if out := kubectl(t, "-n", ns, "get", "deployments", "-l", "tier in (front,back)", "-o", "name"); !strings.Contains(out, "web") {
			t.Errorf("the selector found %q", out)
		}
		if out := kubectl(t, "auth", "can-i", "create", "pods"); !strings.HasPrefix(out, "yes") {
			t.Errorf("the administrator can't: %s", out)
		}
		if out, _ := tryKubectl(t, "auth", "can-i", "create", "pods", "--as=somebody"); !strings.HasPrefix(out, "no") {
			t.Errorf("anybody can: %s", out)
		}
	})
	t.Run("invalid_objects_are_refused_with_the_field", func(t *testing.T) {
		_, err := kubectlWith(t, "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: 70000}]}}", "-n", ns, "create", "-f", "-")
		if err == nil || !strings.Contains(err.Error(), "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive") {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestDrain(t *testing.T) {
	ns := namespace(t)
	deployWeb(t, ns, 4)
	nodes := strings.Fields(kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
	target := nodes[len(nodes)-1]
	defer kubectl(t, "uncordon", target)
	kubectl(t, "drain", target, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")
	kubectl(t, "-n", ns, "rollout", "status", "deployment", "web", "--timeout=60s")
	if out := kubectl(t, "-n", ns, "get", "pods", "--field-selector=spec.nodeName="+target, "-o", "name"); out != "" {
		t.Errorf("still on the drained node: %s", out)
	}
}
