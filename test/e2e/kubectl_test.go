package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// start runs kubectl in the background until the test ends; it returns what it prints, line by line.
func start(t *testing.T, args ...string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(ctx, args...)
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
		s := openTerminal(t, "-n", ns, "exec", "-it", pod, "--", "/demo", "terminal")
		s.expect(t, "33 rows, 99 columns")
		if err := pty.Setsize(s.tty, &pty.Winsize{Rows: 44, Cols: 88}); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "44 rows, 88 columns")
		if _, err := s.tty.WriteString("\x03"); err != nil { // Ctrl-C, which the terminal makes a signal
			t.Fatal(err)
		}
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("exec -it: %v", err)
		}
	})
	t.Run("attach_shows_what_is_printed", func(t *testing.T) {
		kubectl(t, "-n", ns, "run", "prints", "--image=clipper.dev/demo:v1", "--restart=Never", "--", "lines", "10ms")
		kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod/prints", "--timeout=30s")
		awaitLine(t, start(t, "-n", ns, "attach", "prints"), "line 100")
		kubectl(t, "-n", ns, "delete", "pod", "prints", "--grace-period=0", "--force")
	})
	t.Run("attach_has_a_terminal_that_resizes_and_takes_input", func(t *testing.T) {
		apply(t, ns, `
{apiVersion: v1, kind: Pod, metadata: {name: sized}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", args: [terminal], stdin: true, tty: true}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: hears}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", args: [echo], stdin: true, tty: true}]}}
`)
		kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod/sized", "pod/hears", "--timeout=30s")
		s := openTerminal(t, "-n", ns, "attach", "-it", "sized")
		s.expect(t, "33 rows, 99 columns")
		if err := pty.Setsize(s.tty, &pty.Winsize{Rows: 44, Cols: 88}); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "44 rows, 88 columns")
		s = openTerminal(t, "-n", ns, "attach", "-it", "hears")
		if _, err := s.tty.WriteString("hello\r"); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "heard hello")
	})
	t.Run("run_attached_passes_input_and_the_exit_code", func(t *testing.T) {
		out, err := kubectlWith(t, "one\ntwo\n", "-n", ns, "run", "piped", "--rm", "-i", "--quiet", "--restart=Never", "--image=clipper.dev/demo:v1", "--", "echo")
		if err != nil || !strings.Contains(out, "heard one\nheard two\n") {
			t.Errorf("the output is %q, %v", out, err)
		}
	})
	t.Run("cp_brings_files_and_folders_both_ways", func(t *testing.T) { copyBothWays(t, ns, pod) })
	t.Run("top_shows_usage", func(t *testing.T) { top(t, ns) })
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
		out := kubectl(t, "explain", "deployment.spec.strategy")
		for _, want := range []string{"GROUP:      apps", "FIELD: strategy <DeploymentStrategy>", "rollingUpdate\t<RollingUpdateDeployment>", "existing pods with new ones"} {
			if !strings.Contains(out, want) {
				t.Errorf("explain lacks %q in\n%s", want, out)
			}
		}
		if out := kubectl(t, "explain", "pod", "--recursive"); !strings.Contains(out, "terminationGracePeriodSeconds\t<integer>") {
			t.Errorf("explain --recursive says\n%s", out)
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
		for selector, found := range map[string]bool{
			"tier=front": true, "tier in (front,back)": true, "tier": true, "!tier": false, "tier!=front": false, "tier notin (front)": false,
		} {
			if out := kubectl(t, "-n", ns, "get", "deployments", "-l", selector, "-o", "name"); (out == "deployment.apps/web\n") != found {
				t.Errorf("the selector %q found %q", selector, out)
			}
		}
		if _, err := tryKubectl(t, "-n", ns, "label", "deployment", "web", "tier=back"); err == nil || !strings.Contains(err.Error(), "--overwrite is false") {
			t.Errorf("the error is %v", err)
		}
		kubectl(t, "-n", ns, "label", "deployment", "web", "tier=back", "--overwrite")
		kubectl(t, "-n", ns, "label", "deployment", "web", "tier-")
		if out := kubectl(t, "-n", ns, "get", "deployment", "web", "-o", "jsonpath={.metadata.labels.tier}"); out != "" {
			t.Errorf("the label is still %q", out)
		}
		if out := kubectl(t, "auth", "can-i", "create", "pods"); !strings.HasPrefix(out, "yes") {
			t.Errorf("the administrator can't: %s", out)
		}
		if out, _ := tryKubectl(t, "auth", "can-i", "create", "pods", "--as=somebody"); !strings.HasPrefix(out, "no") {
			t.Errorf("anybody can: %s", out)
		}
	})
	t.Run("invalid_objects_are_refused_with_the_field", func(t *testing.T) {
		_, err := clientset(t).CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "Bad_Name"}}, metav1.CreateOptions{})
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().Code != 422 || status.Status().Reason != metav1.StatusReasonInvalid {
			t.Fatalf("the error is %v", err)
		}
		var fields []string
		for _, cause := range status.Status().Details.Causes {
			fields = append(fields, string(cause.Type)+" "+cause.Field)
		}
		if want := []string{"FieldValueInvalid metadata.name", "FieldValueRequired spec.containers"}; !slices.Equal(fields, want) {
			t.Errorf("the causes are %q, not %q", fields, want)
		}
		_, err = kubectlWith(t, "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: 70000}]}}", "-n", ns, "create", "-f", "-")
		if err == nil || !strings.Contains(err.Error(), "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive") {
			t.Errorf("the error is %v", err)
		}
	})
}

// copyBothWays copies a large file and a folder into a container and back.
func copyBothWays(t *testing.T, ns, pod string) {
	here, back := t.TempDir(), t.TempDir()
	big := make([]byte, 40<<20)
	rand.NewChaCha8([32]byte{1}).Read(big)
	if err := errors.Join(os.MkdirAll(filepath.Join(here, "folder", "inner"), 0o755),
		os.WriteFile(filepath.Join(here, "folder", "inner", "small"), []byte("text"), 0o644),
		os.WriteFile(filepath.Join(here, "big"), big, 0o644)); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", ns, "cp", filepath.Join(here, "big"), pod+":/tmp/big")
	kubectl(t, "-n", ns, "cp", filepath.Join(here, "folder"), pod+":/tmp/folder")
	kubectl(t, "-n", ns, "cp", pod+":/tmp/big", filepath.Join(back, "big"))
	kubectl(t, "-n", ns, "cp", pod+":/tmp/folder", filepath.Join(back, "folder"))
	got, err := os.ReadFile(filepath.Join(back, "big"))
	if err != nil || sha256.Sum256(got) != sha256.Sum256(big) {
		t.Errorf("the large file came back with %d bytes of %d, changed: %v", len(got), len(big), err)
	}
	if got, err := os.ReadFile(filepath.Join(back, "folder", "inner", "small")); err != nil || string(got) != "text" {
		t.Errorf("the folder's file came back as %q, %v", got, err)
	}
}

// top expects the numbers of all nodes, and of the pods of a namespace once they have been looked at.
func top(t *testing.T, ns string) {
	t.Helper()
	if served := kubectl(t, "get", "apiservice", "v1beta1.metrics.k8s.io", "-o", `jsonpath={.status.conditions[?(@.type=="Available")].status}`); served != "True" {
		t.Errorf("the resource metrics API is available: %q", served)
	}
	out := kubectl(t, "top", "node")
	if !strings.HasPrefix(out, "NAME ") || !strings.Contains(out, "CPU(cores)") || strings.Count(out, "\n") != 1+*nodes {
		t.Errorf("top node says\n%s", out)
	}
	eventually(t, time.Minute, func() (err error) { out, err = tryKubectl(t, "-n", ns, "top", "pod", "--containers"); return err })
	if !strings.HasPrefix(out, "POD ") || !strings.Contains(out, "MEMORY(bytes)") || !strings.Contains(out, "Mi") {
		t.Errorf("top pod says\n%s", out)
	}
}

func TestDrain(t *testing.T) {
	builtInOnly(t)
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
