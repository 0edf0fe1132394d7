package memory

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

const mi = 1 << 20

// hint is one in the record.
type hint struct {
	Nodes     uint64 `json:"n"`
	Preferred bool   `json:"p"`
}

func (h hint) hint() topology.Hint {
	return topology.Hint{Nodes: topology.Mask(h.Nodes), Preferred: h.Preferred}
}

// step is what upstream's static policy of v1.36.3 did: testdata/static-memory.json, made by test/conformance/resources. Requests are in MiB.
type step struct {
	Remove   string  `json:"remove"`
	Pod      string  `json:"pod"`
	Init     int64   `json:"init"`
	Memory   int64   `json:"memory"`
	Huge     int64   `json:"huge"`
	Affinity *hint   `json:"affinity"`
	Hints    []hint  `json:"hints"`
	Blocks   []Block `json:"blocks"`
	InitLeft *uint64 `json:"initLeft"`
	Error    string  `json:"error"`
	State    Nodes   `json:"state"`
}

func testContainer(name string, memory, huge int64) corev1.Container {
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: *resource.NewQuantity(memory*mi, resource.BinarySI)}
	if huge > 0 {
		list["hugepages-2Mi"] = *resource.NewQuantity(huge*mi, resource.BinarySI)
	}
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: list, Limits: list}}
}

func TestMemoryIsChosenAsUpstreamChoosesIt(t *testing.T) {
	data, err := os.ReadFile("testdata/static-memory.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Nodes int    `json:"nodes"`
		Steps []step `json:"steps"`
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d_on_%d_nodes", i, c.Nodes), func(t *testing.T) {
			p := &static{reserved: map[int]request{}}
			for id := range c.Nodes {
				p.nodes = append(p.nodes, machine.Node{ID: id, Memory: 1024 * mi, HugePages: []machine.HugePages{{Size: 2 * mi, Count: 64}}})
				p.reserved[id] = request{corev1.ResourceMemory: 64 * mi}
			}
			s, err := openState(t.TempDir(), PolicyStatic)
			if err == nil {
				err = p.begin(s)
			}
			if err != nil {
				t.Fatal(err)
			}
			for n := range c.Steps {
				replay(t, p, s, n, &c.Steps[n])
				if t.Failed() {
					return
				}
			}
		})
	}
}

func replay(t *testing.T, p *static, s *state, n int, want *step) {
	t.Helper()
	defer func() {
		if got, err := json.Marshal(s.MachineState); err != nil || !sameJSON(t, got, want.State) {
			t.Errorf("step %d: the nodes are %s, %v", n, got, err)
		}
	}()
	if want.Remove != "" {
		s.release(types.UID(want.Remove), "init")
		s.release(types.UID(want.Remove), "app")
		return
	}
	pod := &corev1.Pod{}
	pod.UID = types.UID(want.Pod)
	if want.Init > 0 {
		pod.Spec.InitContainers = []corev1.Container{testContainer("init", want.Init, 0)}
	}
	pod.Spec.Containers = []corev1.Container{testContainer("app", want.Memory, want.Huge)}
	app := &pod.Spec.Containers[0]
	asked, err := wants(app)
	if err != nil {
		t.Fatal(err)
	}
	var hints []topology.Hint
	for _, h := range want.Hints {
		hints = append(hints, h.hint())
	}
	if got := p.hints(s.MachineState, pod.UID, asked); !slices.Equal(got, hints) {
		t.Errorf("step %d: hints %v, not %v", n, got, hints)
	}
	var affinity topology.Hint
	if want.Affinity != nil {
		affinity = want.Affinity.hint()
	}
	if want.Init > 0 {
		err = p.allocate(s, pod, &pod.Spec.InitContainers[0], affinity)
	}
	if err == nil {
		err = p.allocate(s, pod, app, affinity)
	}
	if err != nil {
		s.release(pod.UID, "init")
		s.release(pod.UID, "app")
	}
	if err != nil && err.Error() != want.Error || err == nil && want.Error != "" {
		t.Errorf("step %d: error %v, not %q", n, err, want.Error)
	}
	if err != nil {
		return
	}
	if got := s.blocks(pod.UID, "app"); fmt.Sprint(got) != fmt.Sprint(want.Blocks) {
		t.Errorf("step %d: the container got %v, not %v", n, got, want.Blocks)
	}
	if want.InitLeft != nil {
		if got := s.blocks(pod.UID, "init")[0].Size; got != *want.InitLeft {
			t.Errorf("step %d: the init container keeps %d, not %d", n, got, *want.InitLeft)
		}
	}
}

func sameJSON(t *testing.T, got []byte, want Nodes) bool {
	t.Helper()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) == string(got)
}

func TestAStateFileIsUpstreams(t *testing.T) {
	for dir, policy := range map[string]string{"none": PolicyNone, "given": PolicyStatic} {
		t.Run(dir, func(t *testing.T) {
			original, err := os.ReadFile(filepath.Join("testdata", dir, stateFile))
			if err != nil {
				t.Fatal(err)
			}
			at := t.TempDir()
			if err := os.WriteFile(filepath.Join(at, stateFile), original, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := openState(at, policy)
			if err == nil {
				err = s.save()
			}
			if err != nil {
				t.Fatal(err)
			}
			written, err := os.ReadFile(filepath.Join(at, stateFile))
			if err != nil || string(written) != string(original) {
				t.Errorf("written anew it is %s, %v; it was %s", written, err, original)
			}
		})
	}
}

func TestAReservationMustAddUp(t *testing.T) {
	nodes := []machine.Node{{ID: 0}, {ID: 1}}
	whole := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("200Mi")}
	for _, tc := range []struct {
		given []string
		want  string
	}{
		{[]string{"0:memory=100Mi", "1:memory=100Mi"}, ""},
		{[]string{"0:memory=100Mi"}, `the total amount "100Mi" of type "memory" is not equal to the value "200Mi" determined by Node Allocatable feature`},
		{[]string{"2:memory=200Mi"}, "references a NUMA node 2 that does not exist"},
	} {
		var by []Reservation
		for _, text := range tc.given {
			r, err := ParseReservation(text)
			if err != nil {
				t.Fatal(err)
			}
			by = append(by, r)
		}
		_, err := byNode(nodes, whole, by)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%v: %v", tc.given, err)
		}
	}
	for _, text := range []string{"memory=1Gi", "0:cpu=1", "0:memory=much", "-1:memory=1Gi"} {
		if _, err := ParseReservation(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
