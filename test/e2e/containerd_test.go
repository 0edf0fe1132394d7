package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var containerdDir = flag.String("containerd", "", "folder with containerd, its shim and ctr, which take the built-in runtime's place on a cluster of one node; it needs runc and the CNI plugins too")

// containerd is a runtime that the tests bring, with containers in it that Clipper did not start.
type containerd struct {
	place
	conn     *grpc.ClientConn
	foreign  []string // containers in the kubelet's namespace that others started, by their IDs
	otherPID string   // of a container in another namespace
}

func newContainerd() *containerd { return &containerd{place: newPlace("containerd")} }

func (c *containerd) endpoint() string { return "unix://" + c.state + "/containerd.sock" }

const (
	containerdConf = `version = 3
root = "%[1]s/root"
state = "%[2]s"
[grpc]
  address = "%[2]s/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "` + pauseImage + `"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  Root = "%[2]s/runc"
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["` + cniPlugins + `"]
  conf_dir = "%[1]s/cni"
  conf_template = "%[1]s/template"
`
	cniTemplate = `{"cniVersion":"1.0.0","name":"e2e","plugins":[
{"type":"bridge","bridge":"%s","isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":{"type":"host-local","dataDir":"%s/ipam",
 "ranges":[{{range $i, $r := .PodCIDRRanges}}{{if $i}},{{end}}[{"subnet":"{{$r}}"}]{{end}}],"routes":[{"dst":"0.0.0.0/0"}]}},
{"type":"portmap","capabilities":{"portMappings":true}}]}`
)

// start runs containerd with the demonstration images, and containers of somebody else's. What a former run left was cleared.
func (c *containerd) start() error {
	if err := errors.Join(os.MkdirAll(c.dir+"/cni", 0o755), os.MkdirAll(c.state, 0o711)); err != nil {
		return err
	}
	err := errors.Join(os.WriteFile(c.dir+"/config.toml", fmt.Appendf(nil, containerdConf, c.dir, c.state), 0o644),
		os.WriteFile(c.dir+"/template", fmt.Appendf(nil, cniTemplate, c.bridge, c.state), 0o644))
	if err != nil {
		return err
	}
	if err := c.run(*containerdDir, "containerd", "-c", c.dir+"/config.toml", "-l", "warn"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if c.conn, err = dialRuntime(ctx, c.endpoint()); err != nil {
		return fmt.Errorf("containerd does not answer: %w", err)
	}
	if err := c.importImages(); err != nil {
		return err
	}
	return c.startForeign(ctx)
}

// importImages brings the demonstration images, and one of them as what containerd holds sandboxes with.
func (c *containerd) importImages() error {
	demo, pause, err := c.archives()
	if err != nil {
		return err
	}
	for _, archive := range []string{demo, pause} {
		if _, err := c.ctr("k8s.io", "image", "import", "--local", archive); err != nil {
			return err
		}
	}
	return nil
}

// ctr calls containerd past the kubelet's interface, in one of its namespaces.
func (c *containerd) ctr(namespace string, args ...string) (string, error) {
	args = append([]string{"-a", c.state + "/containerd.sock", "-n", namespace}, args...)
	out, err := exec.Command(filepath.Join(*containerdDir, "ctr"), args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

const (
	otherNamespace = "not-clippers"
	otherContainer = "foreign"
)

// startForeign starts what other programs on the machine might: pods by the same interface that the kubelet uses, with its labels and with none, and a
// container in a namespace that is none of Kubernetes'.
func (c *containerd) startForeign(ctx context.Context) error {
	for name, labels := range map[string]map[string]string{
		"foreign": {"io.kubernetes.pod.name": "foreign", "io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": "foreign"}, "bare": nil,
	} {
		id, err := c.startForeignPod(ctx, name, labels)
		if err != nil {
			return fmt.Errorf("start the pod %s: %w", name, err)
		}
		c.foreign = append(c.foreign, id)
	}
	if _, err := c.ctr(otherNamespace, "image", "import", "--local", demoArchive); err != nil {
		return err
	}
	_, err := c.ctr(otherNamespace, "run", "--runc-root", c.state+"/runc", "--detach", "--net-host", "--cgroup", foreignCgroup()+"/ctr", "clipper.dev/demo:v1", otherContainer, "/demo", "sleep", "99999h")
	if err != nil {
		return err
	}
	c.otherPID, err = c.pidOfOther()
	return err
}

// pidOfOther finds the process of the container in the other namespace, which runs.
func (c *containerd) pidOfOther() (string, error) {
	list, err := c.ctr(otherNamespace, "task", "list")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == otherContainer && fields[2] == "RUNNING" {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("the container in another namespace does not run:\n%s", list)
}

func (c *containerd) startForeignPod(ctx context.Context, name string, labels map[string]string) (string, error) {
	client := runtimeapi.NewRuntimeServiceClient(c.conn)
	sandbox := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name}, Labels: labels,
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    foreignCgroup(),
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE}},
		},
	}
	made, err := client.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		return "", err
	}
	created, err := client.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: made.PodSandboxId, SandboxConfig: sandbox, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: "clipper.dev/demo:v1"}, Args: []string{"sleep", "99999h"},
		Linux: &runtimeapi.LinuxContainerConfig{},
	}})
	if err != nil {
		return "", err
	}
	_, err = client.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.ContainerId})
	return created.ContainerId, err
}

// untouched tells whether the foreign containers still run.
func (c *containerd) untouched() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, id := range c.foreign {
		status, err := runtimeapi.NewRuntimeServiceClient(c.conn).ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			errs = append(errs, fmt.Errorf("a foreign container: %w", err))
		} else if status.Status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			errs = append(errs, fmt.Errorf("the foreign container %s is %v", status.Status.Metadata.Name, status.Status.State))
		}
	}
	pid, err := c.pidOfOther()
	if err == nil && pid != c.otherPID {
		err = fmt.Errorf("the container in another namespace is now process %s, was %s", pid, c.otherPID)
	}
	return errors.Join(append(errs, err)...)
}

// end takes away what was started.
func (c *containerd) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	errs := []error{removePods(ctx, c.conn), c.conn.Close()}
	if c.otherPID != "" {
		_, err := c.ctr(otherNamespace, "task", "delete", "--force", otherContainer)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, c.clear())...)
}
