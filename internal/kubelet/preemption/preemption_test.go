package preemption

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pod is a pod of a class and priority that requests CPU.
func pod(name string, qos corev1.PodQOSClass, cpu string, priority int32) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{Name: "main"}}}}
	p.Status.QOSClass = qos
	r := &p.Spec.Containers[0].Resources
	if qos != corev1.PodQOSBestEffort {
		r.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Mi")}
	}
	if qos == corev1.PodQOSGuaranteed {
		r.Limits = r.Requests
	}
	return p
}

func TestChoose(t *testing.T) {
	critical := pod("critical", corev1.PodQOSGuaranteed, "1", criticalPriority)
	best, small := pod("best", corev1.PodQOSBestEffort, "", 0), pod("small", corev1.PodQOSBurstable, "100m", 0)
	large, sure := pod("large", corev1.PodQOSBurstable, "500m", 0), pod("sure", corev1.PodQOSGuaranteed, "2", 0)
	peer := pod("peer", corev1.PodQOSBurstable, "4", criticalPriority)
	for name, test := range map[string]struct {
		running []*corev1.Pod
		lacking []Lack
		want    []string
		err     string
	}{
		"the_one_that_is_large_enough":             {[]*corev1.Pod{best, small, large, sure}, []Lack{{corev1.ResourceCPU, 400}}, []string{"large"}, ""},
		"the_smaller_of_two_that_are_large_enough": {[]*corev1.Pod{large, small}, []Lack{{corev1.ResourceCPU, 50}}, []string{"small"}, ""},
		"guaranteed_pods_last":                     {[]*corev1.Pod{sure, small, large}, []Lack{{corev1.ResourceCPU, 700}}, []string{"sure"}, ""},
		"a_place_is_a_best_effort_pod_s":           {[]*corev1.Pod{sure, best, large}, []Lack{{corev1.ResourcePods, 1}}, []string{"best"}, ""},
		"critical_pods_stay":                       {[]*corev1.Pod{peer, small}, []Lack{{corev1.ResourceCPU, 1000}}, nil, "no set of running pods found to reclaim resources: [(res: cpu, q: 900), ]"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Choose(critical, test.running, test.lacking)
			var names []string
			for _, p := range got {
				names = append(names, p.Name)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if !slices.Equal(names, test.want) || text != test.err {
				t.Errorf("got %v, %q; want %v, %q", names, text, test.want, test.err)
			}
		})
	}
}
