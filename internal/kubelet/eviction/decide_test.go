package eviction

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const mi = int64(1 << 20)

func usage(name string, priority int32, request string, memory int64) Usage {
	res := corev1.ResourceList{}
	if request != "" {
		res[corev1.ResourceMemory] = resource.MustParse(request)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Priority: &priority,
		Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: res}}}}}
	return Usage{Pod: pod, Memory: memory, Containers: map[string]ContainerUsage{"c": {Memory: memory}}}
}

func TestChoose(t *testing.T) {
	crossing := Crossing{Threshold{Signal: MemoryAvailable, Value: DefaultHard()[MemoryAvailable]}, Observation{Available: 50 * mi, Capacity: 1000 * mi}}
	for _, tc := range []struct {
		name string
		pods []Usage
		want string
	}{
		{"who exceeds the request goes before who doesn't", []Usage{usage("within", 0, "500Mi", 400*mi), usage("over", 10, "10Mi", 20*mi)}, "over"},
		{"of those the lower priority goes", []Usage{usage("high", 5, "", 400*mi), usage("low", 1, "", 20*mi)}, "low"},
		{"then the larger excess", []Usage{usage("small", 0, "", 20*mi), usage("large", 0, "", 30*mi)}, "large"},
		{"critical pods stay", []Usage{usage("critical", criticalPriority, "", 300*mi)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := Choose(crossing, tc.pods, 30)
			got := ""
			if v != nil {
				got = v.Pod.Name
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	v := Choose(crossing, []Usage{usage("p", 0, "10Mi", 20*mi)}, 30)
	want := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 20Mi, request is 10Mi, has larger consumption of memory. "
	if v.Message != want || v.GraceSeconds != 1 {
		t.Errorf("victim = %+v, want message %q", v, want)
	}
}

func TestASoftThresholdWaits(t *testing.T) {
	q := resource.MustParse("200Mi")
	soft := Threshold{Signal: MemoryAvailable, Value: Value{Quantity: &q}, Grace: time.Minute}
	seen := map[Signal]Observation{MemoryAvailable: {Available: 150 * mi, Capacity: 1000 * mi}}
	since, start := map[Threshold]time.Time{}, time.Unix(1000, 0)
	if all, due := Crossed([]Threshold{soft}, seen, since, start); len(all) != 1 || len(due) != 0 {
		t.Fatalf("at once: all %v due %v", all, due)
	}
	if _, due := Crossed([]Threshold{soft}, seen, since, start.Add(time.Minute)); len(due) != 1 {
		t.Error("not due after its grace")
	}
	seen[MemoryAvailable] = Observation{Available: 250 * mi, Capacity: 1000 * mi}
	if all, _ := Crossed([]Threshold{soft}, seen, since, start.Add(2*time.Minute)); len(all) != 0 || len(since) != 0 {
		t.Error("still crossed after recovery")
	}
}

func TestOverLimit(t *testing.T) {
	limit := resource.MustParse("1Mi")
	pod := &corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}}}
	if got := OverLimit(&Usage{Pod: pod}, map[string]int64{"v": mi}); got != "" {
		t.Errorf("at the limit: %q", got)
	}
	if got := OverLimit(&Usage{Pod: pod}, map[string]int64{"v": mi + 1}); !strings.HasPrefix(got, `Usage of EmptyDir volume "v" exceeds the limit "1Mi".`) {
		t.Errorf("over the limit: %q", got)
	}
}
