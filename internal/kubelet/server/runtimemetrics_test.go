package server

import (
	"net/http/httptest"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestWhatTheRuntimeTellsIsPassedOnOnce(t *testing.T) {
	labels := []string{"pod", "namespace", "container", "id", "image"}
	values := []string{"web", "default", "app", "c1", "app:v1"}
	tr := newTranslation([]*runtimeapi.MetricDescriptor{
		{Name: "container_sockets", Help: "Number of open sockets for the container.", LabelKeys: labels},
		{Name: "container_fs_reads_total", Help: "Cumulative count of reads completed", LabelKeys: append(labels, "device")},
		{Name: "container_memory_rss", Help: "Size of RSS in bytes.", LabelKeys: labels},
	})
	value := func(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }
	out := &sheet{}
	tr.add(out, []*runtimeapi.Metric{
		{Name: "container_sockets", MetricType: runtimeapi.MetricType_GAUGE, Timestamp: 5e6, LabelValues: values, Value: value(3)},
		{Name: "container_fs_reads_total", MetricType: runtimeapi.MetricType_COUNTER, Timestamp: 5e6, LabelValues: append(values, "/dev/vda"), Value: value(7)},
		{Name: "container_memory_rss", MetricType: runtimeapi.MetricType_GAUGE, LabelValues: values, Value: value(9)},
		{Name: "container_undescribed", LabelValues: values, Value: value(9)},
		{Name: "container_sockets", LabelValues: values[:2], Value: value(9)},
	}, "/kubepods/pod1/c1", "c1")
	w := httptest.NewRecorder()
	out.serve(w, httptest.NewRequest("GET", "/metrics/cadvisor", nil))
	for _, want := range []string{
		"# TYPE container_sockets gauge\n" + `container_sockets{container="app",id="/kubepods/pod1/c1",image="app:v1",name="c1",namespace="default",pod="web"} 3 5`,
		"# TYPE container_fs_reads_total counter\n" + `container_fs_reads_total{container="app",device="/dev/vda",id="/kubepods/pod1/c1",image="app:v1",name="c1",namespace="default",pod="web"} 7 5`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("missing: %s", want)
		}
	}
	if n := strings.Count(w.Body.String(), "container_memory_rss") + strings.Count(w.Body.String(), "} 9"); n != 0 {
		t.Errorf("%d lines of what isn't passed on:\n%s", n, w.Body)
	}
}
