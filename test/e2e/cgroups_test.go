package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unified tells whether this machine has version 2 of control groups alone.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// A setting is one of a control group, by its file and value in both versions.
type setting struct {
	controller, file, value string // in version 1
	file2, value2           string // in version 2
	container2              string // in version 2 for a container, if not the same
}

// container is the setting as a container's group has it.
func (s setting) container() setting {
	s.value2 = cmp.Or(s.container2, s.value2)
	return s
}

// check compares a setting of a group with what it ought to be.
func (s setting) check(group string) error {
	path, want := filepath.Join("/sys/fs/cgroup", s.controller, group, s.file), s.value
	if unified() {
		path, want = filepath.Join("/sys/fs/cgroup", group, s.file2), s.value2
	}
	data, err := os.ReadFile(path)
	if got := strings.TrimSpace(string(data)); err == nil && got != want {
		err = fmt.Errorf("%s is %q, not %q", path, got, want)
	}
	return err
}

// quota is CPU time in microseconds per 100 ms.
func quota(micros string) setting {
	return setting{controller: "cpu", file: "cpu.cfs_quota_us", value: micros, file2: "cpu.max", value2: micros + " 100000"}
}

// weight is CPU time in relation to others'. Version 2 has a scale of its own, and into it kubelets convert in proportion, but
// runtimes so that the usual weight is the usual one again.
func weight(shares, pod, container string) setting {
	return setting{controller: "cpu", file: "cpu.shares", value: shares, file2: "cpu.weight", value2: pod, container2: container}
}

func memory(bytes string) setting {
	return setting{controller: "memory", file: "memory.limit_in_bytes", value: bytes, file2: "memory.max", value2: bytes}
}

// groupOf finds the control group of a pod below the groups of its class, relative to a hierarchy's root.
func groupOf(t *testing.T, ns, pod, class string) string {
	t.Helper()
	hierarchy := "/sys/fs/cgroup/memory"
	if unified() {
		hierarchy = "/sys/fs/cgroup"
	}
	uid := kubectl(t, "-n", ns, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	found, err := filepath.Glob(filepath.Join(hierarchy, layout(t, clusterName).CgroupRoot+"*", "kubepods", class, "pod"+uid))
	if err != nil || len(found) != 1 {
		t.Fatalf("the groups of pod %s are %v, %v", pod, found, err)
	}
	return strings.TrimPrefix(found[0], hierarchy)
}

// containerGroup is the group of the container of a pod that has one.
func containerGroup(t *testing.T, ns, pod, group string) string {
	t.Helper()
	id := kubectl(t, "-n", ns, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	_, id, _ = strings.Cut(id, "://")
	return filepath.Join(group, id)
}

// TestControlGroups follows pods of each class into their control groups: what they are given, what a resize changes, what is
// measured, and that nothing stays.
func TestControlGroups(t *testing.T) {
	if rival != nil {
		t.Skip("the other runtime names its groups in its own way")
	}
	ns := namespace(t)
	before := mountOptions(t, "self")
	const pod = `{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", resources: {%s}}]}}`
	for name, resources := range map[string]string{
		"guaranteed": "limits: {cpu: 500m, memory: 64Mi}",
		"burstable":  "requests: {cpu: 250m, memory: 32Mi}, limits: {cpu: 750m, memory: 96Mi}",
		"besteffort": "",
	} {
		apply(t, ns, fmt.Sprintf(pod, name, resources))
	}
	apply(t, ns, `{apiVersion: v1, kind: Pod, metadata: {name: privileged}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", securityContext: {privileged: true}}]}}`)
	for _, name := range []string{"guaranteed", "burstable", "besteffort", "privileged"} {
		expect(t, time.Minute, ns, "pod/"+name, "{.status.phase}", "Running")
	}
	groups := map[string]string{
		"guaranteed": groupOf(t, ns, "guaranteed", ""), "burstable": groupOf(t, ns, "burstable", "burstable"), "besteffort": groupOf(t, ns, "besteffort", "besteffort"),
		"privileged": groupOf(t, ns, "privileged", "besteffort"),
	}
	for _, tc := range []struct {
		pod      string
		settings []setting
	}{
		{"guaranteed", []setting{quota("50000"), weight("512", "20", "59"), memory("67108864")}},
		{"burstable", []setting{quota("75000"), weight("256", "10", "35"), memory("100663296")}},
		{"besteffort", []setting{weight("2", "1", "1")}},
	} {
		t.Run(tc.pod, func(t *testing.T) {
			for _, s := range tc.settings {
				if err := s.check(groups[tc.pod]); err != nil {
					t.Error("the pod's", err)
				}
				if err := s.container().check(containerGroup(t, ns, tc.pod, groups[tc.pod])); err != nil {
					t.Error("the container's", err)
				}
			}
		})
	}
	t.Run("a_resize_changes_them_in_place", func(t *testing.T) {
		kubectl(t, "-n", ns, "patch", "pod", "burstable", "--subresource", "resize", "-p",
			`{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"500m"},"limits":{"cpu":"1","memory":"128Mi"}}}]}}`)
		container := containerGroup(t, ns, "burstable", groups["burstable"])
		for _, s := range []setting{quota("100000"), weight("512", "20", "59"), memory("134217728")} {
			eventually(t, 30*time.Second, func() error { return errors.Join(s.check(groups["burstable"]), s.container().check(container)) })
		}
		expect(t, 30*time.Second, ns, "pod/burstable", restarts, "0")
		expect(t, 30*time.Second, ns, "pod/burstable", "{.status.containerStatuses[0].resources.limits.memory}", "128Mi")
	})
	t.Run("so_does_a_resize_of_the_pod_alone", func(t *testing.T) {
		apply(t, ns, `{apiVersion: v1, kind: Pod, metadata: {name: whole}, spec: {terminationGracePeriodSeconds: 1, resources: {requests: {cpu: 250m}, limits: {cpu: 500m, memory: 64Mi}}, `+
			`containers: [{name: c, image: "clipper.dev/demo:v1", resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 200m, memory: 32Mi}}}]}}`)
		expect(t, time.Minute, ns, "pod/whole", "{.status.phase}", "Running")
		kubectl(t, "-n", ns, "patch", "pod", "whole", "--subresource", "resize", "-p", `{"spec":{"resources":{"requests":{"cpu":"500m"},"limits":{"cpu":"1","memory":"128Mi"}}}}`)
		group := groupOf(t, ns, "whole", "burstable")
		for _, s := range []setting{quota("100000"), weight("512", "20", "59"), memory("134217728")} {
			eventually(t, 30*time.Second, func() error { return s.check(group) })
		}
		expect(t, 30*time.Second, ns, "pod/whole", restarts, "0")
	})
	t.Run("a_container_sees_its_own_and_cannot_change_it", func(t *testing.T) { seesItsOwn(t, containerGroup(t, ns, "guaranteed", groups["guaranteed"])) })
	t.Run("a_privileged_container_sees_the_nodes", func(t *testing.T) {
		seesTheNodes(t, containerGroup(t, ns, "privileged", groups["privileged"]))
		if now := mountOptions(t, "self"); now != before {
			t.Errorf("the node's mount has the options %s, and had %s", now, before)
		}
	})
	t.Run("exec_enters_them", func(t *testing.T) {
		if out := kubectl(t, "-n", ns, "exec", "guaranteed", "--", "/demo", "get", "http://localhost:8080/healthz"); !strings.Contains(out, "ok") {
			t.Errorf("it says %q", out)
		}
		if out := kubectl(t, "-n", ns, "logs", "guaranteed"); !strings.Contains(out, "serves on port") {
			t.Errorf("the log is %q", out)
		}
	})
	t.Run("use_is_measured", func(t *testing.T) { isMeasured(t, ns, "guaranteed") })
	t.Run("nothing_stays", func(t *testing.T) {
		kubectl(t, "-n", ns, "delete", "pod", "--all")
		for pod, group := range groups {
			eventually(t, 30*time.Second, func() error {
				left, _ := filepath.Glob("/sys/fs/cgroup/*" + group)
				if _, err := os.Stat("/sys/fs/cgroup" + group); err == nil || len(left) > 0 {
					return fmt.Errorf("the group of %s stays: %v", pod, left)
				}
				return nil
			})
		}
	})
}

// seesItsOwn looks at control groups as the first process of a container's group does.
func seesItsOwn(t *testing.T, group string) {
	file, inside, hierarchy := "memory.limit_in_bytes", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory"
	if unified() {
		file, inside, hierarchy = "memory.max", "/sys/fs/cgroup", "/sys/fs/cgroup"
	}
	pid := processIn(t, hierarchy, group)
	seen, err := os.ReadFile(filepath.Join("/proc", pid, "root", inside, file))
	if err != nil || strings.TrimSpace(string(seen)) != "67108864" {
		t.Errorf("it reads %q, %v", seen, err)
	}
	mounts, err := os.ReadFile("/proc/" + pid + "/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[1] == inside && !strings.HasPrefix(fields[3], "ro") {
			t.Errorf("it can write: %s", line)
		}
	}
}

// processIn is the first process of a group.
func processIn(t *testing.T, hierarchy, group string) string {
	procs, err := os.ReadFile(filepath.Join(hierarchy, group, "cgroup.procs"))
	pid, _, _ := strings.Cut(string(procs), "\n")
	if err != nil || pid == "" {
		t.Fatalf("the group has no process: %v", err)
	}
	return pid
}

// seesTheNodes looks at control groups as a privileged container does.
func seesTheNodes(t *testing.T, group string) {
	if !unified() {
		t.Skip("version 1 shows a container its own groups in any case")
	}
	pid := processIn(t, "/sys/fs/cgroup", group)
	if _, err := os.Stat(filepath.Join("/proc", pid, "root/sys/fs/cgroup", group)); err != nil {
		t.Errorf("it does not see itself among the node's: %v", err)
	}
	if options := mountOptions(t, pid); !strings.HasPrefix(options, "rw") {
		t.Errorf("it may not write: %s", options)
	}
}

// mountOptions are those of the mount of control groups that a process sees.
func mountOptions(t *testing.T, process string) string {
	mounts, err := os.ReadFile("/proc/" + process + "/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[1] == "/sys/fs/cgroup" {
			return fields[3]
		}
	}
	return ""
}

// isMeasured asks the kubelet for what a pod uses.
func isMeasured(t *testing.T, ns, pod string) {
	node := kubectl(t, "-n", ns, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
	eventually(t, 30*time.Second, func() error {
		text, err := tryKubectl(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")
		if err != nil {
			return err
		}
		type usage struct {
			CPU struct {
				UsageCoreNanoSeconds uint64
				UsageNanoCores       *uint64
			}
			Memory struct{ WorkingSetBytes, AvailableBytes, RSSBytes uint64 }
		}
		var summary struct {
			Node struct {
				usage
				SystemContainers []struct {
					usage
					Name string
				}
			}
			Pods []struct {
				usage
				PodRef     struct{ Name, Namespace string }
				Containers []usage
			}
		}
		if err := json.Unmarshal([]byte(text), &summary); err != nil {
			return err
		}
		complete := func(u usage) bool { return u.CPU.UsageCoreNanoSeconds > 0 && u.Memory.WorkingSetBytes > 0 }
		if !complete(summary.Node.usage) {
			return fmt.Errorf("the node uses %+v", summary.Node)
		}
		if all := summary.Node.SystemContainers; len(all) != 1 || all[0].Name != "pods" || !complete(all[0].usage) || all[0].CPU.UsageNanoCores == nil || all[0].Memory.AvailableBytes == 0 {
			return fmt.Errorf("all pods use %+v", all)
		}
		for _, p := range summary.Pods {
			if p.PodRef.Name != pod || p.PodRef.Namespace != ns {
				continue
			}
			if !complete(p.usage) || len(p.Containers) != 1 || !complete(p.Containers[0]) || p.Containers[0].Memory.AvailableBytes == 0 {
				return fmt.Errorf("the pod uses %+v", p)
			}
			return nil
		}
		return fmt.Errorf("nothing is told of %s in %s", pod, text)
	})
}
