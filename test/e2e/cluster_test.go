// Package e2e starts real clusters with the built program, as its user would, and holds them against what the README promises:
// real containers, real packets, and kubectl as the client.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	clipper = flag.String("clipper", "", "the program to test; default ../../bin/clipper")
	name    = flag.String("name", "e2e", "name of the tests' own cluster, and how those begin that single tests start: they disturb none that somebody is using")
	stock   = flag.String("kubectl", "", "a stock kubectl for the tests to use; default the one in the program")
	nodes   = flag.Int("nodes", 2, "how many nodes the tests' cluster has")
	slow    = flag.Int("slow", 1, "how many times longer than usual things may take: an emulated machine is slow")
	idle    = flag.Duration("idle", 0, "after the tests, wait this long and print what the idle cluster uses")
)

// What follows from the name.
var clusterName, badName, diskName, pinnedName, kubeconfig string

func TestMain(m *testing.M) {
	flag.Parse()
	clusterName, badName, diskName, pinnedName = *name, *name+"-bad", *name+"-disk", *name+"-pinned"
	kubeconfig = "/etc/clipper-" + clusterName + "/kubeconfig"
	if testing.Short() {
		fmt.Println("end-to-end tests need root and minutes: left out with -short")
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if *clipper == "" {
		path, err := filepath.Abs("../../bin/clipper")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		*clipper = path
	}
	if rival = newRival(); rival != nil {
		*nodes = 1
		if err := rival.clear(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	if err := errors.Join(purge(clusterName), purge(badName), purge(pinnedName), purgeDisk(), stranger.start()); err != nil {
		fmt.Println(errors.Join(err, stranger.end()))
		return 1
	}
	if rival != nil {
		if err := rival.start(); err != nil {
			fmt.Println(errors.Join(err, rival.clear(), stranger.end()))
			return 1
		}
	}
	if out, err := program("up", "--nodes", strconv.Itoa(*nodes)); err != nil {
		fmt.Printf("clipper up: %v\n%s%v\n", err, out, stranger.end())
		return 1
	}
	code := m.Run()
	if *idle > 0 {
		if err := printIdle(*idle); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	if err := errors.Join(purgeWhileBusy(), stranger.untouched(), stranger.end()); err != nil {
		fmt.Println("after down --purge:", err)
		code = 1
	}
	if rival != nil {
		if err := errors.Join(rival.untouched(), rival.end()); err != nil {
			fmt.Println("the other runtime:", err)
			code = 1
		}
	}
	return code
}

// program runs clipper for the tests' cluster.
func program(args ...string) (string, error) { return programFor(clusterName, args...) }

// evictLate keeps the tests' pods on a machine whose disk is nearly full.
const evictLate = "--eviction-hard=memory.available<100Mi"

// programFor runs clipper for a cluster of another name.
func programFor(cluster string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience(2*time.Minute))
	defer cancel()
	// The daemons outlive the command: its output goes to a file, which nobody has to wait for.
	out, err := os.CreateTemp("", "clipper-e2e-out")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if args = append(args, "--name", cluster); args[0] == "up" {
		args = append(args, evictLate)
		if rival != nil && cluster == clusterName {
			args = append(args, "--container-runtime-endpoint", rival.endpoint())
		}
	}
	cmd := exec.CommandContext(ctx, *clipper, args...)
	cmd.Stdout, cmd.Stderr = out, out
	runErr := cmd.Run()
	text, err := os.ReadFile(out.Name())
	return string(text), errors.Join(runErr, err)
}

// command makes a kubectl that speaks to the tests' cluster, and is killed when the context ends.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, *clipper, append([]string{"kubectl"}, args...)...)
	if *stock != "" {
		cmd = exec.CommandContext(ctx, *stock, args...)
	}
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	return cmd
}

// kubectl runs the program as kubectl and returns its standard output.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryKubectl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return kubectlWith(t, "", args...)
}

// kubectlWith runs kubectl with something on its standard input.
func kubectlWith(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience(90*time.Second))
	defer cancel()
	cmd := command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// namespace makes a namespace for one test and removes it afterwards.
func namespace(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	if len(name) > 50 {
		name = name[:50]
	}
	kubectl(t, "create", "namespace", name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience(time.Minute))
		defer cancel()
		if out, err := command(ctx, "delete", "namespace", name, "--wait=true").CombinedOutput(); err != nil {
			t.Errorf("delete namespace %s: %v\n%s", name, err, out)
		}
	})
	return name
}

// apply creates the objects of a manifest.
func apply(t *testing.T, ns, manifest string) {
	t.Helper()
	if _, err := kubectlWith(t, manifest, "-n", ns, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// patience is how long something may take that usually takes a given time at most.
func patience(usual time.Duration) time.Duration { return usual * time.Duration(*slow) }

// eventually calls check until it returns nil, and fails the test with its last error after a time.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	within = patience(within)
	end := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %s: %v", within, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
