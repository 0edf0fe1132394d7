// Command run runs upstream's conformance suite against a cluster that "clipper up" started, and prints a table by SIG.
//
//	run -clipper bin/clipper -out out/conformance [-focus RE] [-skip RE] [-parallel N]
//
// It starts a two-node cluster of its own name, imports the images that the command images made, runs the [Conformance]
// specs (the serial ones by themselves), and purges the cluster. JUnit reports and logs stay in the output folder.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"clipper.dev/clipper/test/conformance/registry"
)

// clusterName is the cluster's: a run disturbs no other.
const clusterName = "conformance"

const clusterKubeconfig = "/etc/clipper-" + clusterName + "/kubeconfig"

type options struct {
	clipper, out, images, focus, skip string
	suite, ginkgo                     string // the compiled suite, and its runner
	parallel                          int
	keep                              bool
	kubeconfig                        string
}

func main() {
	var o options
	flag.StringVar(&o.clipper, "clipper", "bin/clipper", "the program to test")
	flag.StringVar(&o.out, "out", "out/conformance", "folder for reports and logs")
	flag.StringVar(&o.images, "images", "out/images", "folder of image archives")
	flag.StringVar(&o.suite, "suite", "out/e2e.test", "the compiled suite")
	flag.StringVar(&o.ginkgo, "ginkgo", "out/ginkgo", "the suite's runner")
	flag.StringVar(&o.focus, "focus", "", "only specs that match, besides [Conformance]")
	flag.StringVar(&o.skip, "skip", "", "no specs that match")
	flag.IntVar(&o.parallel, "parallel", 8, "how many specs run at once, but for the serial ones")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster running, and use one that runs")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "use the cluster of this kubeconfig instead of starting one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (ok bool, err error) {
	for _, p := range []*string{&o.clipper, &o.out, &o.images, &o.suite, &o.ginkgo} {
		if *p, err = filepath.Abs(*p); err != nil {
			return false, err
		}
	}
	if err := os.RemoveAll(o.out); err != nil {
		return false, err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return false, err
	}
	if o.kubeconfig == "" {
		images, err := o.startCluster(ctx)
		if err != nil {
			return false, err
		}
		if images != nil {
			defer func() {
				if err := images.Close(); err != nil {
					log.Print(err)
				}
			}()
		}
		if !o.keep {
			defer o.clipperCommand(context.WithoutCancel(ctx), "down", "--purge")
		}
		o.kubeconfig = clusterKubeconfig
	}
	// Failures of the suite are in its reports; what is no failure of specs shows up as specs that are missing.
	if err := o.runSuite(ctx, "parallel", o.parallel, and(o.skip, `\[Serial\]`)); err != nil {
		log.Print(err)
	}
	if err := o.runSuite(ctx, "serial", 1, o.skip); err != nil {
		log.Print(err)
	}
	return summarize(o.out, os.Stdout)
}

func and(a, b string) string {
	if a == "" {
		return b
	}
	return a + "|" + b
}

// startCluster starts the cluster with its images, and the registry that it pulls from, unless one is to be used that runs.
func (o options) startCluster(ctx context.Context) (*registry.Registry, error) {
	if !o.keep {
		if err := o.clipperCommand(ctx, "down", "--purge"); err != nil {
			return nil, err
		}
	}
	if o.keep && exec.CommandContext(ctx, o.clipper, "status", "--name", clusterName).Run() == nil {
		return nil, nil
	}
	archives, err := filepath.Glob(filepath.Join(o.images, "*.tar"))
	if err != nil {
		return nil, err
	}
	// The first start tells the address that the registry shall have, the second one knows it.
	if err := o.clipperCommand(ctx, "up", "--nodes", "2"); err != nil {
		return nil, err
	}
	address, err := o.nodeAddress(ctx)
	if err != nil {
		return nil, err
	}
	address = net.JoinHostPort(address, registryPort)
	mirrors, err := o.mirror(address)
	if err != nil {
		return nil, err
	}
	if err := o.clipperCommand(ctx, "down"); err != nil {
		return nil, err
	}
	if err := o.clipperCommand(ctx, "up", "--nodes", "2", "--registry-config", mirrors); err != nil {
		return nil, err
	}
	if err := o.clipperCommand(ctx, append([]string{"image", "import"}, archives...)...); err != nil {
		return nil, err
	}
	return openRegistry(ctx, address, archives)
}

func (o options) clipperCommand(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, o.clipper, append(args, "--name", clusterName)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("clipper %s: %w", args[0], err)
	}
	return nil
}

// runSuite runs the parallel part or, named "serial", the serial one.
func (o options) runSuite(ctx context.Context, part string, parallel int, skip string) error {
	dir := filepath.Join(o.out, part)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	focus := `\[Conformance\]`
	if part == "serial" {
		focus = `(?:\[Serial\].*\[Conformance\]|\[Conformance\].*\[Serial\])`
	}
	args := []string{
		"--procs=" + strconv.Itoa(parallel), "--timeout=24h", "--no-color", "--silence-skips", "--focus=" + focus,
	}
	if o.focus != "" {
		// Ginkgo joins several focuses by "or": a filter over the text says "and".
		args[len(args)-1] = "--focus=" + both(focus, o.focus)
	}
	if skip != "" {
		args = append(args, "--skip="+skip)
	}
	args = append(args, o.suite, "--",
		"--provider=local", "--kubeconfig="+o.kubeconfig, "--report-dir="+dir, "--num-nodes=2", "--disable-log-dump",
		"--allowed-not-ready-nodes=0", "--system-pods-startup-timeout=1m", "--minStartupPods=0")
	log.Printf("the %s specs run; their log is %s/e2e.log", part, dir)
	logFile, err := os.Create(filepath.Join(dir, "e2e.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.CommandContext(ctx, o.ginkgo, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = logFile, logFile, dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the %s specs: %w", part, err)
	}
	return nil
}

// both matches texts in which both expressions match, in either order.
func both(a, b string) string { return "(?:" + a + ".*" + b + "|" + b + ".*" + a + ")" }
