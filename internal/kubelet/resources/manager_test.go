package resources

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/resources/cpu"
)

// twoCPUs writes the part of /sys that tells of a machine of two cores.
func twoCPUs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range map[string]string{
		"cpu/online": "0-1", "cpu/cpu0/topology/physical_package_id": "0", "cpu/cpu1/topology/physical_package_id": "0",
		"cpu/cpu0/topology/core_cpus_list": "0", "cpu/cpu1/topology/core_cpus_list": "1",
		"node/node0/cpulist": "0-1", "node/node0/distance": "10", "node/node0/meminfo": "Node 0 MemTotal:       1024 kB",
	} {
		path = filepath.Join(dir, "devices/system", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAContainerWithItsOwnCPUsIsThrottledByExclusiveQuotaAlone(t *testing.T) {
	for exclusiveQuota, want := range map[bool]int64{false: -1, true: 100000} {
		list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("64Mi")}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "own", UID: "uid"}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "app", Resources: corev1.ResourceRequirements{Requests: list, Limits: list}}},
		}}
		m, err := New(Config{
			Policies: Policies{CPUManagerPolicy: cpu.PolicyStatic, ExclusiveQuota: exclusiveQuota}, Root: t.TempDir(), Sys: twoCPUs(t),
			Reserved: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}, Active: func() (map[types.UID]*corev1.Pod, bool) { return nil, false },
			Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if refusal := m.Admit(t.Context(), pod); refusal != nil {
			t.Fatal(refusal)
		}
		linux := &runtimeapi.LinuxContainerResources{CpuQuota: 100000}
		m.Pin(pod, "app", linux)
		if linux.CpuQuota != want || m.Unthrottled(pod) == exclusiveQuota {
			t.Errorf("ExclusiveQuota %v: quota %d, pod unthrottled %v", exclusiveQuota, linux.CpuQuota, m.Unthrottled(pod))
		}
	}
}
