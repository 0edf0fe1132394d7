package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"

	"clipper.dev/clipper/internal/cluster"
)

// pinned is a cluster whose node gives containers CPUs, memory and devices of their own.
type pinned struct {
	cluster.Layout
	t     *testing.T
	flags []string
}

func (p *pinned) up() {
	p.t.Helper()
	if out, err := programFor(p.Name, append([]string{"up"}, p.flags...)...); err != nil {
		p.t.Fatalf("clipper up: %v\n%s", err, out)
	}
}

func (p *pinned) kubectl(stdin string, args ...string) (string, error) {
	p.t.Helper()
	return kubectlWith(p.t, stdin, append([]string{"--kubeconfig", p.Kubeconfig()}, args...)...)
}

// expect waits until a jsonpath of an object has a value.
func (p *pinned) expect(object, path, want string) {
	p.t.Helper()
	eventually(p.t, 30*time.Second, func() error {
		got, err := p.kubectl("", "get", object, "-o", "jsonpath="+path)
		if err == nil && got != want {
			err = fmt.Errorf("%s of %s is %q, not %q", path, object, got, want)
		}
		return err
	})
}

func (p *pinned) pod(name, more string, limits ...string) {
	p.t.Helper()
	manifest := fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {%s terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", resources: {limits: {%s}}}]}}`,
		name, more, strings.Join(limits, ", "))
	if _, err := p.kubectl(manifest, "apply", "-f", "-"); err != nil {
		p.t.Fatal(err)
	}
}

// cpus returns the CPUs that a pod's processes may run on, as the kernel says.
func (p *pinned) cpus(pod string) string {
	p.t.Helper()
	uid, err := p.kubectl("", "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	if err != nil {
		p.t.Fatal(err)
	}
	root := "/sys/fs/cgroup" + p.CgroupRoot
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup/cpu" + p.CgroupRoot
	}
	allowed := ""
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" || !strings.Contains(path, uid) {
			return nil // a group that has gone meanwhile
		}
		procs, _ := os.ReadFile(path)
		for _, pid := range strings.Fields(string(procs)) {
			status, _ := os.ReadFile("/proc/" + pid + "/status")
			if _, rest, ok := strings.Cut(string(status), "Cpus_allowed_list:\t"); ok {
				allowed, _, _ = strings.Cut(rest, "\n")
			}
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return allowed
}

func (p *pinned) expectCPUs(pod string, ok func(string) bool) string {
	p.t.Helper()
	var last string
	eventually(p.t, 15*time.Second, func() error {
		if last = p.cpus(pod); !ok(last) {
			return fmt.Errorf("%s runs on CPUs %q", pod, last)
		}
		return nil
	})
	return last
}

// TestContainersGetCPUsMemoryAndDevicesOfTheirOwn follows what a node gives: to whom it goes, that it outlives the kubelet, and that it is taken back.
func TestContainersGetCPUsMemoryAndDevicesOfTheirOwn(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one CPU stays with the node: a container needs another")
	}
	p := &pinned{Layout: layout(t, pinnedName), t: t, flags: []string{
		"--cpu-manager-policy=static", "--system-reserved=cpu=500m,memory=100Mi", "--memory-manager-policy=Static", "--reserved-memory=0:memory=200Mi",
		"--topology-manager-policy=single-numa-node",
	}}
	t.Cleanup(func() {
		if out, err := programFor(p.Name, "down", "--purge"); err != nil {
			t.Errorf("clipper down: %v\n%s", err, out)
		}
	})
	p.up()
	plugins := filepath.Join(p.KubeletDir(), "device-plugins")
	node := "node/" + cluster.NodeName(1)
	const offered = `{.status.allocatable.example\.com/dev}/{.status.capacity.example\.com/dev}`
	startDevicePlugin(t, plugins, "a", "b")
	p.expect(node, offered, "2/2")

	p.pod("shared", "")
	p.pod("own", "", `cpu: "1"`, "memory: 64Mi", testDevice+`: "1"`)
	p.expect("pod/own", "{.status.phase}", "Running")
	p.expect("pod/shared", "{.status.phase}", "Running")
	own := p.expectCPUs("own", func(set string) bool { return set != "" && !strings.ContainsAny(set, "-,") })
	p.expectCPUs("shared", func(set string) bool { return set != "" && !overlaps(set, own) })
	if out, err := p.kubectl("", "exec", "own", "--", "/demo", "get", "http://localhost:8080/"); err != nil || !strings.Contains(out, "DEVICES=a") || !strings.Contains(out, "/etc/device-host") {
		t.Errorf("the container doesn't see its device: %v\n%s", err, out)
	}
	p.expect("pod/own", "{.status.containerStatuses[0].allocatedResourcesStatus}", `[{"name":"example.com/dev","resources":[{"health":"Healthy","resourceID":"a"}]}]`)
	p.expectListed("own", own)
	p.refuses("greedy", "Pod was rejected: Allocate failed due to requested number of devices unavailable for example.com/dev. Requested: 2, Available: 1, which is unexpected")

	killDaemon(t, p.PIDFile())
	p.up()
	p.expect("pod/own", "{.status.phase} {.status.containerStatuses[0].restartCount}", "Running 0")
	p.expect(node, offered, "0/0") // until the plugin is back
	p.expectListed("own", own)
	if got := p.cpus("own"); got != own {
		t.Errorf("after a restart it runs on CPUs %s, not %s", got, own)
	}
	back := startDevicePlugin(t, plugins, "a", "b")
	p.expect(node, offered, "2/2")
	back.list([]string{"a"}, "b")
	p.expect(node, offered, "1/2")
	p.expect("pod/own", "{.status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health}", "Unhealthy")

	if _, err := p.kubectl("", "delete", "pod", "own"); err != nil {
		t.Fatal(err)
	}
	p.expectCPUs("shared", func(set string) bool { return overlaps(set, own) })
	p.pod("next", "", testDevice+`: "1"`)
	p.expect("pod/next", "{.status.phase}", "Running")
}

// overlaps tells whether a list of CPUs has one of them.
func overlaps(set, cpu string) bool {
	for _, part := range strings.Split(set, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		var a, b, c int
		if _, err := fmt.Sscan(first+" "+last+" "+cpu, &a, &b, &c); err == nil && a <= c && c <= b {
			return true
		}
	}
	return false
}

// expectListed asks the PodResources API what a pod has.
func (p *pinned) expectListed(pod, cpu string) {
	p.t.Helper()
	api := podresourcesapi.NewPodResourcesListerClient(dialUnix(p.t, filepath.Join(p.KubeletDir(), "pod-resources", "kubelet.sock")))
	got, err := api.Get(p.t.Context(), &podresourcesapi.GetPodResourcesRequest{PodName: pod, PodNamespace: "default"})
	if err != nil {
		p.t.Fatal(err)
	}
	c := got.PodResources.Containers[0]
	text := fmt.Sprintf("%v %v", c.CpuIds, len(c.Devices))
	if len(c.Devices) > 0 {
		text += fmt.Sprint(" ", c.Devices[0].ResourceName, c.Devices[0].DeviceIds)
	}
	for _, m := range c.Memory {
		text += fmt.Sprintf(" %s=%d", m.MemoryType, m.Size)
	}
	if want := fmt.Sprintf("[%s] 1 %s[a] memory=%d", cpu, testDevice, 64<<20); text != want {
		p.t.Errorf("the PodResources API tells %q, not %q", text, want)
	}
}

// refuses checks that a pod which asks for two devices is refused with a message, although it was bound.
func (p *pinned) refuses(name, message string) {
	p.t.Helper()
	p.pod(name, "nodeName: "+cluster.NodeName(1)+",", testDevice+`: "2"`)
	p.expect("pod/"+name, "{.status.phase} {.status.reason} {.status.message}", "Failed UnexpectedAdmissionError "+message)
}
