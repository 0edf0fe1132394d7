package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	ocitag "github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A rivalRuntime takes the built-in runtime's place on a cluster of one node, and has containers that Clipper did not start.
type rivalRuntime interface {
	clear() error     // takes away what a run that was cut off left
	start() error     // runs it, with the demonstration images and foreign containers
	endpoint() string // where the kubelet finds it
	untouched() error // tells whether the foreign containers still run
	end() error       // takes away what was started
}

// rival is there if a flag asks for it.
var rival rivalRuntime

func newRival() rivalRuntime {
	switch {
	case *containerdDir != "":
		return newContainerd()
	case *dockerDir != "":
		return newDocker()
	}
	return nil
}

// builtInOnly leaves out a test of what only the built-in runtime does, or of more than one node: further nodes on this machine are network
// namespaces, each of which would want a runtime, a CNI configuration and a flag of its own.
func builtInOnly(t *testing.T) {
	t.Helper()
	if rival != nil {
		t.Skip("it is about the built-in runtime, or more than one node")
	}
}

// place is where a rival keeps what, and which of its processes run.
type place struct {
	dir, state string
	bridge     string
	started    []*exec.Cmd
}

func newPlace(kind string) place {
	return place{dir: filepath.Join(os.TempDir(), *name+"-"+kind), state: "/run/" + *name + "-" + kind, bridge: "e2e-" + strconv.Itoa(os.Getuid()) + "cni"}
}

// run starts a program of a folder that has those that it calls, too.
func (p *place) run(folder, program string, args ...string) error {
	log, err := os.Create(filepath.Join(p.dir, program+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(folder, program), args...)
	cmd.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.started = append(p.started, cmd)
	return nil
}

const (
	cniPlugins  = "/usr/lib/cni"
	pauseImage  = "clipper.dev/pause:e2e"
	demoArchive = "../../internal/demo/image/demo.tar"
)

func foreignCgroup() string { return "/not-clippers-" + *name + "-pod" }

// archives are the demonstration images, and one of them as what sandboxes are held with.
func (p *place) archives() (demo, pause string, err error) {
	tag, err := ocitag.NewTag("clipper.dev/demo:v1")
	if err != nil {
		return "", "", err
	}
	img, err := tarball.ImageFromPath(demoArchive, &tag)
	if err != nil {
		return "", "", err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return "", "", err
	}
	config := file.Config
	config.Entrypoint, config.Cmd = []string{"/demo", "sleep", "99999h"}, nil
	if img, err = mutate.Config(img, config); err != nil {
		return "", "", err
	}
	if tag, err = ocitag.NewTag(pauseImage); err != nil {
		return "", "", err
	}
	pause = filepath.Join(p.dir, "pause.tar")
	return demoArchive, pause, tarball.WriteToFile(pause, tag, img)
}

// dialRuntime waits until a runtime answers.
func dialRuntime(ctx context.Context, endpoint string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	_, err = runtimeapi.NewRuntimeServiceClient(conn).Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
	return conn, err
}

// clear ends the runtime's processes, also those of a run that was cut off, with its shims, and removes its folders.
func (p *place) clear() error {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	for _, dir := range dirs {
		words, _ := os.ReadFile(dir + "/cmdline") // it may have ended
		cgroups, _ := os.ReadFile(dir + "/cgroup")
		if !strings.Contains(string(words), p.state+"/") && !strings.Contains(string(words), p.dir+"/") && !strings.Contains(string(cgroups), foreignCgroup()) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	for _, cmd := range p.started {
		_ = cmd.Wait() // it was killed
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, p.state+"/") || strings.HasPrefix(at, p.dir+"/") {
			_ = unix.Unmount(at, unix.MNT_DETACH) // removing what is below fails else
		}
	}
	if link, err := netlink.LinkByName(p.bridge); err == nil {
		_ = netlink.LinkDel(link) // what is left of it, the next run removes
	}
	return errors.Join(os.RemoveAll(p.state), os.RemoveAll(p.dir))
}

// removePods removes all pods of a runtime.
func removePods(ctx context.Context, conn *grpc.ClientConn) error {
	client := runtimeapi.NewRuntimeServiceClient(conn)
	pods, err := client.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list the pods that are left: %w", err)
	}
	var errs []error
	for _, p := range pods.Items {
		_, stopErr := client.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.Id})
		_, err := client.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.Id})
		errs = append(errs, stopErr, err)
	}
	return errors.Join(errs...)
}
