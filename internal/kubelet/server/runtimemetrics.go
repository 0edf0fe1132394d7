package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// measuredHere are the metrics of containers that the kubelet makes itself, more exactly than the runtime tells them.
var measuredHere = map[string]bool{
	"container_cpu_usage_seconds_total": true, "container_memory_usage_bytes": true, "container_memory_working_set_bytes": true, "container_memory_rss": true,
	"container_fs_usage_bytes": true, "container_start_time_seconds": true,
	"container_network_receive_bytes_total": true, "container_network_transmit_bytes_total": true,
	"container_network_receive_errors_total": true, "container_network_transmit_errors_total": true,
}

// addTold adds what the runtime alone can tell of the pods. Not every runtime does.
func (s *server) addTold(ctx context.Context, out *sheet, pods []podReading) {
	described, err := s.Runtime.ListMetricDescriptors(ctx, &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		s.Logger.Debug("the runtime describes no metrics", "error", err)
		return
	}
	told, err := s.Runtime.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil {
		s.Logger.Debug("the runtime tells no metrics", "error", err)
		return
	}
	parents := map[string]string{} // the pods' control groups by their sandboxes
	for i := range pods {
		for _, sandbox := range pods[i].pod.Observed.Sandboxes {
			parents[sandbox.ID] = s.Tree.PodPath(pods[i].pod.Pod)
		}
	}
	t := newTranslation(described.Descriptors)
	for _, pod := range told.PodMetrics {
		parent, ours := parents[pod.PodSandboxId]
		if !ours {
			continue
		}
		t.add(out, pod.Metrics, parent, "")
		for _, c := range pod.ContainerMetrics {
			t.add(out, c.Metrics, parent+"/"+c.ContainerId, c.ContainerId)
		}
	}
}

// translation makes metrics in the runtime's form into Prometheus'.
type translation map[string]described

type described struct {
	desc *prometheus.Desc
	id   int // which label is the ID
	size int
}

func newTranslation(list []*runtimeapi.MetricDescriptor) translation {
	t := translation{}
	for _, d := range list {
		one := described{id: -1, size: len(d.LabelKeys)}
		for i, key := range d.LabelKeys {
			if key == "id" {
				one.id = i
			}
		}
		one.desc = prometheus.NewDesc(d.Name, d.Help, append(d.LabelKeys[:one.size:one.size], "name"), nil)
		t[d.Name] = one
	}
	return t
}

// add adds metrics with the control group as their ID.
func (t translation) add(out *sheet, list []*runtimeapi.Metric, group, name string) {
	for _, m := range list {
		d, ok := t[m.Name]
		if !ok || measuredHere[m.Name] || len(m.LabelValues) != d.size {
			continue
		}
		labels := append(m.LabelValues[:d.size:d.size], name)
		if d.id >= 0 {
			labels[d.id] = group
		}
		kind := prometheus.GaugeValue
		if m.MetricType == runtimeapi.MetricType_COUNTER {
			kind = prometheus.CounterValue
		}
		out.add(family{d.desc, kind}, time.Unix(0, m.Timestamp), float64(m.GetValue().GetValue()), labels...)
	}
}
