package cpu

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
	"k8s.io/utils/cpuset"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// recorded is what upstream's static policy of v1.36.3 did on machines that were made up: testdata/static-cpus.json, made by test/conformance/resources.
type recorded struct {
	Shapes []struct {
		Name string   `json:"name"`
		CPUs [][4]int `json:"cpus"` // core, socket, NUMA node, cache
	} `json:"shapes"`
	Cases []struct {
		Shape    string            `json:"shape"`
		Options  map[string]string `json:"options"`
		Reserved int               `json:"reserved"`
		Steps    []step            `json:"steps"`
	} `json:"cases"`
}

type step struct {
	Remove   string `json:"remove"`
	Pod      string `json:"pod"`
	Init     int    `json:"init"`
	Count    int    `json:"count"`
	Affinity uint64 `json:"affinity"`
	Hints    []struct {
		Nodes     uint64 `json:"n"`
		Preferred bool   `json:"p"`
	} `json:"hints"`
	InitSet string `json:"initSet"`
	Set     string `json:"set"`
	Error   string `json:"error"`
	Shared  string `json:"shared"`
}

func testContainer(name string, cpus int) corev1.Container {
	list := corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(int64(cpus), resource.DecimalSI), corev1.ResourceMemory: resource.MustParse("1Gi")}
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: list, Limits: list}}
}

func (s *step) pod() *corev1.Pod {
	pod := &corev1.Pod{}
	pod.UID = types.UID(s.Pod)
	if s.Init > 0 {
		pod.Spec.InitContainers = []corev1.Container{testContainer("init", s.Init)}
	}
	pod.Spec.Containers = []corev1.Container{testContainer("app", s.Count)}
	return pod
}

func TestCPUsAreChosenAsUpstreamChoosesThem(t *testing.T) {
	data, err := os.ReadFile("testdata/static-cpus.json")
	if err != nil {
		t.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	shapes := map[string]*machine.Topology{}
	for _, s := range r.Shapes {
		topo := &machine.Topology{CPUs: map[int]machine.CPU{}}
		for id, c := range s.CPUs {
			topo.CPUs[id] = machine.CPU{ID: id, Core: c[0], Socket: c[1], NUMA: c[2], Uncore: c[3]}
		}
		shapes[s.Name] = topo
	}
	for i, c := range r.Cases {
		t.Run(fmt.Sprintf("%d_%s_%v", i, c.Shape, c.Options), func(t *testing.T) {
			o, err := parseOptions(c.Options)
			if err != nil {
				t.Fatal(err)
			}
			p, err := newStatic(shapes[c.Shape], o, c.Reserved, cpuset.New())
			if err != nil {
				t.Fatal(err)
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
	if want.Remove != "" {
		s.release(types.UID(want.Remove), "init")
		s.release(types.UID(want.Remove), "app")
		if got := s.shared.String(); got != want.Shared {
			t.Errorf("step %d: after %s has gone %s is shared, not %s", n, want.Remove, got, want.Shared)
		}
		return
	}
	pod := want.pod()
	var err error
	if want.Init > 0 {
		err = p.allocate(s, pod, &pod.Spec.InitContainers[0], want.Init, topology.Mask(want.Affinity))
	}
	if err == nil {
		checkHints(t, p, s, n, pod, want)
		err = p.allocate(s, pod, &pod.Spec.Containers[0], want.Count, topology.Mask(want.Affinity))
	}
	if err != nil {
		s.release(pod.UID, "init")
		s.release(pod.UID, "app")
	}
	if got := fmt.Sprint(err); err != nil && got != want.Error || err == nil && want.Error != "" {
		t.Errorf("step %d: error %q, not %q", n, got, want.Error)
	}
	if got := s.own[pod.UID]["app"].String(); got != want.Set {
		t.Errorf("step %d: the container got %q, not %q", n, got, want.Set)
	}
	if got := s.own[pod.UID]["init"].String(); got != want.InitSet {
		t.Errorf("step %d: the init container got %q, not %q", n, got, want.InitSet)
	}
	if got := s.shared.String(); got != want.Shared {
		t.Errorf("step %d: %q is shared, not %q", n, got, want.Shared)
	}
}

func checkHints(t *testing.T, p *static, s *state, n int, pod *corev1.Pod, want *step) {
	t.Helper()
	must := cpuset.New()
	if p.reuseUID == pod.UID {
		must = p.reuse
	}
	var wanted []topology.Hint
	for _, h := range want.Hints {
		wanted = append(wanted, topology.Hint{Nodes: topology.Mask(h.Nodes), Preferred: h.Preferred})
	}
	if got := p.hints(p.free(s), must, want.Count); !slices.Equal(got, wanted) {
		t.Errorf("step %d: hints %v, not %v", n, got, wanted)
	}
}

func TestAStateFileIsUpstreams(t *testing.T) {
	for _, tc := range []struct {
		dir, policy string
		want        map[types.UID]map[string]string
		shared      string
	}{
		{"none", PolicyNone, map[types.UID]map[string]string{}, ""},
		{"given", PolicyStatic, map[types.UID]map[string]string{"uid-1": {"app": "4-5", "side": "6"}, "uid-2": {"app": "7-9"}}, "0-3"},
	} {
		t.Run(tc.dir, func(t *testing.T) {
			original, err := os.ReadFile(filepath.Join("testdata", tc.dir, stateFile))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, stateFile), original, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := openState(dir, tc.policy)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.shared.String(); got != tc.shared {
				t.Errorf("%s is shared, not %s", got, tc.shared)
			}
			for uid, containers := range tc.want {
				for name, set := range containers {
					if got := s.own[uid][name].String(); got != set {
						t.Errorf("%s of %s has %s, not %s", name, uid, got, set)
					}
				}
			}
			if err := s.save(); err != nil {
				t.Fatal(err)
			}
			written, err := os.ReadFile(filepath.Join(dir, stateFile))
			if err != nil || string(written) != string(original) {
				t.Errorf("written anew it is %s, %v; it was %s", written, err, original)
			}
		})
	}
}

func TestAStateThatDoesNotFitIsRefused(t *testing.T) {
	for _, tc := range []struct{ name, policy, content, want string }{
		{"another policy", PolicyStatic, `{"policyName":"none","defaultCpuSet":"","checksum":1353318690}`, `configured policy "static" differs from state checkpoint policy "none"`},
		{"tampered with", PolicyNone, `{"policyName":"none","defaultCpuSet":"1","checksum":1353318690}`, "checkpoint is corrupted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := openState(dir, tc.policy)
			if err == nil || !containsAll(err.Error(), tc.want, "please drain this node and delete the CPU manager checkpoint file") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func containsAll(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
}
