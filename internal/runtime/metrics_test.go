package runtime

import (
	"context"
	"io"
	"slices"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestMetricsOfRunningContainersAreAllDescribed(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	config := p.containerConfig("pause")
	config.Linux.Resources.CpuShares, config.Linux.Resources.MemoryLimitInBytes = 512, 64<<20
	config.Image.UserSpecifiedImage = "probe"
	id := p.ready(config)
	ctx := context.Background()
	described, err := n.ListMetricDescriptors(ctx, &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{}
	for _, d := range described.Descriptors {
		labels[d.Name] = d.LabelKeys
	}
	listed, err := n.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.PodMetrics) != 1 || listed.PodMetrics[0].PodSandboxId != p.id || len(listed.PodMetrics[0].ContainerMetrics) != 1 {
		t.Fatalf("got %v", listed.PodMetrics)
	}
	container := listed.PodMetrics[0].ContainerMetrics[0]
	values := map[string]uint64{}
	for _, m := range container.Metrics {
		keys, ok := labels[m.Name]
		if !ok || len(keys) != len(m.LabelValues) {
			t.Errorf("%s has the labels %v, described are %v", m.Name, m.LabelValues, keys)
		}
		if want := []string{p.config.Metadata.Name, "default", "c1", id, "probe"}; !slices.Equal(m.LabelValues[:5], want) {
			t.Errorf("%s has the labels %v, want %v", m.Name, m.LabelValues, want)
		}
		values[m.Name] = m.Value.Value
	}
	for name, want := range map[string]uint64{"container_processes": 1, "container_spec_cpu_shares": 512, "container_spec_memory_limit_bytes": 64 << 20} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %d, %t, want %d", name, got, ok, want)
		}
	}
	for _, name := range []string{"container_threads", "container_memory_usage_bytes", "container_start_time_seconds", "container_file_descriptors", "container_fs_limit_bytes"} {
		if values[name] == 0 {
			t.Errorf("%s is zero", name)
		}
	}
	stream, err := n.StreamPodSandboxMetrics(ctx, &runtimeapi.StreamPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if piece, err := stream.Recv(); err != nil || len(piece.PodSandboxMetrics) != 1 {
		t.Errorf("streamed %v, %v", piece, err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the stream ends with %v", err)
	}
}
