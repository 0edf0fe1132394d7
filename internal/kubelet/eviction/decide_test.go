package eviction

import (
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const mi = int64(1 << 20)

var hundredMi = func() Value { q := resource.MustParse("100Mi"); return Value{Quantity: &q} }()

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
	crossing := Crossing{Threshold{Signal: MemoryAvailable, Value: hundredMi}, Observation{Available: 50 * mi, Capacity: 1000 * mi}}
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
	annotations := map[string]string{"starved_resource": "memory", "offending_containers": "c", "offending_containers_usage": "20Mi"}
	if !maps.Equal(v.Annotations, annotations) {
		t.Errorf("annotations = %v, want %v", v.Annotations, annotations)
	}
}

func TestAPodsOwnRequestIsTold(t *testing.T) {
	u := usage("p", 0, "", 20*mi)
	u.Pod.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("10Mi")}}
	v := Choose(Crossing{Threshold{Signal: MemoryAvailable, Value: hundredMi}, Observation{Available: 50 * mi, Capacity: 1000 * mi}}, []Usage{u}, 30)
	want := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Pod p was using 20Mi, request is 10Mi, has larger consumption of memory. " +
		"Container c was using 20Mi, request is 0, has larger consumption of memory. "
	if v.Message != want || v.Annotations["offending_pod"] != "p" || v.Annotations["offending_pod_usage"] != "20Mi" {
		t.Errorf("victim = %+v, want message %q", v, want)
	}
}

func TestASoftThresholdWaits(t *testing.T) {
	q := resource.MustParse("200Mi")
	soft := Threshold{Signal: MemoryAvailable, Value: Value{Quantity: &q}, Soft: true, Grace: time.Minute}
	seen := map[Signal]Observation{MemoryAvailable: {Available: 150 * mi, Capacity: 1000 * mi}}
	since, start := map[Threshold]time.Time{}, time.Unix(1000, 0)
	if all, due := Crossed([]Threshold{soft}, seen, since, nil, start); len(all) != 1 || len(due) != 0 {
		t.Fatalf("at once: all %v due %v", all, due)
	}
	if _, due := Crossed([]Threshold{soft}, seen, since, nil, start.Add(time.Minute)); len(due) != 1 {
		t.Error("not due after its grace")
	}
	seen[MemoryAvailable] = Observation{Available: 250 * mi, Capacity: 1000 * mi}
	if all, _ := Crossed([]Threshold{soft}, seen, since, nil, start.Add(2*time.Minute)); len(all) != 0 || len(since) != 0 {
		t.Error("still crossed after recovery")
	}
}

func TestACrossedThresholdStaysSoUntilItsReclaimIsFree(t *testing.T) {
	reclaim := resource.MustParse("50Mi")
	hard := Threshold{Signal: MemoryAvailable, Value: hundredMi, Reclaim: Value{Quantity: &reclaim}}
	since, now := map[Threshold]time.Time{}, time.Unix(1000, 0)
	look := func(available int64, last []Crossing) []Crossing {
		_, due := Crossed([]Threshold{hard}, map[Signal]Observation{MemoryAvailable: {Available: available, Capacity: 1000 * mi}}, since, last, now)
		return due
	}
	if due := look(120*mi, nil); len(due) != 0 {
		t.Fatalf("above the threshold: %v", due)
	}
	last := look(90*mi, nil)
	if len(last) != 1 {
		t.Fatal("below the threshold it is not crossed")
	}
	if last = look(120*mi, last); len(last) != 1 {
		t.Error("what shall be reclaimed is not waited for")
	}
	if due := look(150*mi, last); len(due) != 0 {
		t.Errorf("reclaimed: %v", due)
	}
}

func TestASoftThresholdGivesAPodItsOwnGraceAtMost(t *testing.T) {
	crossing := Crossing{Threshold{Signal: MemoryAvailable, Value: hundredMi, Soft: true}, Observation{Available: 50 * mi, Capacity: 1000 * mi}}
	u := usage("p", 0, "", 20*mi)
	for own, want := range map[int64]int64{5: 5, 60: 30} {
		u.Pod.Spec.TerminationGracePeriodSeconds = &own
		if got := Choose(crossing, []Usage{u}, 30).GraceSeconds; got != want {
			t.Errorf("with %d s of its own: %d s, want %d", own, got, want)
		}
	}
}

func TestParseThresholds(t *testing.T) {
	got, err := ParseThresholds(map[string]string{"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "15%"})
	if _, off := got[NodeFSAvailable]; err != nil || off || len(got) != 2 || got[ImageFSAvailable].Percentage != 0.15 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []map[string]string{{"memory.free": "1Mi"}, {"memory.available": "0"}, {"memory.available": "-1"}, {"memory.available": "101%"}, {"allocatableMemory.available": "1Mi"}} {
		if got, err := ParseThresholds(bad); err == nil {
			t.Errorf("%v: accepted as %v", bad, got)
		}
	}
}

func TestOverLimit(t *testing.T) {
	mib := resource.MustParse("1Mi")
	volume := []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &mib}}}}
	limited := func(name string) corev1.Container {
		return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: mib}}}
	}
	for _, tc := range []struct {
		name            string
		spec            corev1.PodSpec
		disk            int64
		containers      map[string]ContainerUsage
		volume          int64
		signal, message string
	}{
		{name: "a volume at its limit", spec: corev1.PodSpec{Volumes: volume}, volume: mi},
		{name: "a volume beyond it", spec: corev1.PodSpec{Volumes: volume}, volume: mi + 1,
			signal: "emptydirfs.limit", message: `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
		{name: "what containers may have together", spec: corev1.PodSpec{Containers: []corev1.Container{limited("a")}}, disk: mi + 1, containers: map[string]ContainerUsage{"a": {Disk: mi + 1}},
			signal: "ephemeralpodfs.limit", message: "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
		{name: "what one may have", spec: corev1.PodSpec{Containers: []corev1.Container{limited("a"), limited("b")}}, disk: mi + 1, containers: map[string]ContainerUsage{"a": {Disk: mi + 1}},
			signal: "ephemeralcontainerfs.limit", message: `Container a exceeded its local ephemeral storage limit "1Mi". `},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := Usage{Pod: &corev1.Pod{Spec: tc.spec}, Disk: tc.disk, Containers: tc.containers}
			signal, v := OverLimit(&u, map[string]VolumeUsage{"v": {Disk: tc.volume}})
			message := ""
			if v != nil {
				message = v.Message
			}
			if signal != tc.signal || message != tc.message {
				t.Errorf("got %q, %q; want %q, %q", signal, message, tc.signal, tc.message)
			}
		})
	}
}
