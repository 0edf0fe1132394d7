// Command run runs upstream's node suite against a node that Clipper runs, and tells what passed.
//
//	run -clipper bin/clipper -out out/conformance-node [-focus RE] [-skip RE]
//
// It starts a control plane and one agent in a network namespace of its own, gives the agent the KubeletConfiguration that upstream's runner gives its
// kubelet, imports the images, serves them on the node's loopback and runs the suite beside the agent, in that namespace. The suite restarts its kubelet by systemctl: a link of that name to
// this program, first in PATH, stops and starts the agent. All of it sees a /var/lib/kubelet, a /var/log/pods, a /var/log/containers and control groups of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"clipper.dev/clipper/test/conformance/registry"
)

type options struct {
	Name                                  string
	Clipper, Out, Images, Suite, Excluded string // absolute paths
	Ginkgo                                string // the suite's runner
	Parallel                              int
	Focus, Skip, Timeout                  string
	Keep                                  bool
	Namespace                             string // the process whose network namespace is the machine's
}

func main() {
	if name := filepath.Base(os.Args[0]); name == "systemctl" || name == "sudo" {
		os.Exit(standIn(name, os.Args[1:]))
	}
	var o options
	flag.StringVar(&o.Name, "name", "node-suite", "the cluster's name: a run disturbs none of another name")
	flag.StringVar(&o.Clipper, "clipper", "bin/clipper", "the program to test")
	flag.StringVar(&o.Out, "out", "out/conformance-node", "folder for reports and logs")
	flag.StringVar(&o.Images, "images", "out/images", "folder of image archives")
	flag.StringVar(&o.Suite, "suite", "out/e2e_node.test", "the compiled suite")
	flag.StringVar(&o.Ginkgo, "ginkgo", "out/ginkgo", "the suite's runner")
	flag.IntVar(&o.Parallel, "parallel", 1, "how many specs run at once; serial ones come after them")
	flag.StringVar(&o.Excluded, "excluded", "node/excluded.yaml", "file of the specs that this kind of machine can't run, with the reasons")
	flag.StringVar(&o.Focus, "focus", "", "only specs that match")
	flag.StringVar(&o.Skip, "skip", "", "no specs that match")
	flag.StringVar(&o.Timeout, "timeout", "4h", "how long the suite may take")
	flag.BoolVar(&o.Keep, "keep", false, "leave the cluster running")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if os.Getenv(insideEnv) == "" {
		err = o.enter(ctx)
	} else {
		err = o.run(ctx)
	}
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		os.Exit(1) // it has told why
	}
	if err != nil {
		log.Fatal(err)
	}
}

const (
	insideEnv  = "CLIPPER_NODE_SUITE_INSIDE"
	kubeletDir = "/var/lib/kubelet"
	podLogsDir = "/var/log/pods"
	logLinkDir = "/var/log/containers"
)

// enter runs this program again in namespaces of its own for mounts and control groups.
func (o options) enter(ctx context.Context) error {
	for _, dir := range []string{kubeletDir, podLogsDir, logLinkDir} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	restore, err := ownGroups("suite-of-" + o.Name)
	if err != nil {
		return err
	}
	defer restore()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWCGROUP}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.Run()
}

func (o options) run(ctx context.Context) error {
	for _, p := range []*string{&o.Clipper, &o.Out, &o.Images, &o.Suite, &o.Ginkgo, &o.Excluded} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if err := o.prepare(); err != nil {
		return err
	}
	n := node{Name: o.Name, Clipper: o.Clipper, Dir: o.Out, Namespace: fmt.Sprintf("/proc/%d/ns/net", os.Getpid())}
	if err := n.remember(); err != nil {
		return err
	}
	if err := n.clipper(ctx, "down", "--purge"); err != nil {
		return err
	}
	if !o.Keep {
		defer func() {
			if err := n.clipper(context.WithoutCancel(ctx), "down", "--purge"); err != nil {
				log.Print(err)
			}
		}()
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	if err := n.untainted(ctx); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(o.Images, "*.tar"))
	if err != nil {
		return err
	}
	if err := n.clipper(ctx, append([]string{"image", "import"}, archives...)...); err != nil {
		return err
	}
	images, err := registry.Open(ctx, func() (net.Listener, error) { return listenIn(n.netns(), registryAddress) }, archives)
	if err != nil {
		return err
	}
	defer func() {
		if err := images.Close(); err != nil {
			log.Print(err)
		}
	}()
	// What failed is in the report; what is no failure of specs shows up as specs that are missing.
	if err := o.suite(ctx, &n); err != nil {
		log.Print(err)
	}
	return summarize(filepath.Join(o.Out, "junit.xml"), os.Stdout)
}

// prepare makes the folders and the namespace's own /var/lib/kubelet, /var/log/pods and /var/log/containers.
func (o options) prepare() error {
	if err := os.RemoveAll(o.Out); err != nil {
		return err
	}
	for _, dir := range []string{"kubelet", "pods", "containers", "manifests", "kubelet.conf.d", "bin"} {
		if err := os.MkdirAll(filepath.Join(o.Out, dir), 0o755); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		what, on string
		flags    uintptr
	}{
		{"none", "/", syscall.MS_REC | syscall.MS_PRIVATE},
		{filepath.Join(o.Out, "kubelet"), kubeletDir, syscall.MS_BIND},
		{filepath.Join(o.Out, "pods"), podLogsDir, syscall.MS_BIND},
		{filepath.Join(o.Out, "containers"), logLinkDir, syscall.MS_BIND},
		{"none", "/", syscall.MS_REC | syscall.MS_SHARED}, // pods may ask for mounts that propagate
	} {
		if err := syscall.Mount(m.what, m.on, "", m.flags, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.what, m.on, err)
		}
	}
	if err := mountGroups(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, name := range []string{"systemctl", "sudo"} {
		if err := copyFile(self, filepath.Join(o.Out, "bin", name)); err != nil {
			return err
		}
	}
	if err := registry.WriteMirrors(filepath.Join(o.Out, mirrorsFile), registryAddress); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Out, configFile), []byte(strings.ReplaceAll(baseConfig, "MANIFESTS", filepath.Join(o.Out, "manifests"))), 0o644)
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// configFile is what the suite writes its kubelet's configuration to, in its working directory.
const configFile = "kubelet-config"

// baseConfig is what upstream's runner gives its kubelet, but for what belongs to systemd.
const baseConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupRoot: /
port: 10250
readOnlyPort: 10255
healthzPort: 10248
staticPodPath: MANIFESTS
podLogsDir: /var/log/pods
fileCheckFrequency: 10s
serializeImagePulls: false
evictionPressureTransitionPeriod: 30s
evictionHard:
  memory.available: 100Mi
  nodefs.available: 10%
  nodefs.inodesFree: 5%
evictionMinimumReclaim:
  nodefs.available: 5%
  nodefs.inodesFree: 5%
authentication:
  anonymous: {enabled: true}
  webhook: {enabled: false}
authorization: {mode: AlwaysAllow}
`

// suite runs the suite beside the agent.
func (o options) suite(ctx context.Context, n *node) error {
	excluded, err := readExcluded(o.Excluded)
	if err != nil {
		return err
	}
	endpoint, err := n.endpoint(ctx)
	if err != nil {
		return err
	}
	args := []string{
		"--net=" + n.netns(), o.Ginkgo, "--procs=" + strconv.Itoa(o.Parallel), "--timeout=" + o.Timeout, "--no-color", "-v",
		"--output-dir=" + o.Out, "--junit-report=junit.xml",
	}
	if o.Focus != "" {
		args = append(args, "--focus="+o.Focus)
	}
	if skip := strings.Join(append(excluded, nonEmpty(o.Skip)...), "|"); skip != "" {
		args = append(args, "--skip="+skip)
	}
	// The runner starts the suite in the folder that it lies in, and there the suite writes its kubelet's configuration.
	suite := filepath.Join(o.Out, filepath.Base(o.Suite))
	if err := os.Symlink(o.Suite, suite); err != nil {
		return err
	}
	args = append(args, suite, "--",
		"--start-services=false", "--stop-services=false", "--prepull-images=false", "--host="+endpoint.host, "--bearer-token="+endpoint.token,
		"--node-name="+endpoint.node, "--container-runtime-endpoint=unix://"+n.socket(), "--config-dir="+filepath.Join(o.Out, "kubelet.conf.d"),
		"--report-dir="+o.Out, "--dns-domain=cluster.local")
	logFile, err := os.Create(filepath.Join(o.Out, "e2e.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	log.Printf("the specs run; their log is %s", logFile.Name())
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.Out, logFile, logFile
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(o.Out, "bin")+":"+os.Getenv("PATH"), stateEnv+"="+n.stateFile())
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the suite: %w", err)
	}
	return nil
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
