package metrics

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
)

type gvr = schema.GroupVersionResource

// columns are those of metrics-server's tables.
var columns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"},
	{Name: "cpu", Type: "string", Format: "quantity"},
	{Name: "memory", Type: "string", Format: "quantity"},
	{Name: "Window", Type: "string", Format: "duration"},
}

func cells(name string, used corev1.ResourceList, window metav1.Duration) []any {
	return []any{name, used.Cpu().String(), used.Memory().String(), window.Duration.String()}
}

// metaOf is the metadata of what was measured of an object: it is made at the time of the request.
func metaOf(o api.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), Labels: o.GetLabels(), CreationTimestamp: metav1.Now()}
}

func quantities(u api.Usage) corev1.ResourceList {
	cpu := resource.NewScaledQuantity(int64(u.NanoCores), resource.Nano)
	cpu.Format = resource.DecimalSI
	return corev1.ResourceList{corev1.ResourceCPU: *cpu, corev1.ResourceMemory: *resource.NewQuantity(int64(u.MemoryBytes), resource.BinarySI)}
}
