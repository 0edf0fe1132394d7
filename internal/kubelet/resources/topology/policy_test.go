package topology

import (
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
)

// merged is what upstream's policies of v1.36.3 made of hints at random: testdata/merges.json, made by test/conformance/resources.
type merged struct {
	Nodes     int        `json:"nodes"`
	Distances [][]uint64 `json:"distances"`
	Hints     [][]struct {
		Nodes     uint64 `json:"n"`
		Preferred bool   `json:"p"`
	} `json:"hints"`
	Result map[string]struct {
		Nodes     uint64 `json:"n"`
		Preferred bool   `json:"p"`
		Admit     bool   `json:"a"`
	} `json:"result"`
}

func TestHintsAreMergedAsUpstreamMergesThem(t *testing.T) {
	data, err := os.ReadFile("testdata/merges.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []merged
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		var nodes []machine.Node
		for id := range c.Nodes {
			nodes = append(nodes, machine.Node{ID: id, Distances: c.Distances[id]})
		}
		var providers []Hints
		for _, list := range c.Hints {
			if list == nil {
				providers = append(providers, nil)
				continue
			}
			hints := []Hint{}
			for _, h := range list {
				hints = append(hints, Hint{Mask(h.Nodes), h.Preferred})
			}
			providers = append(providers, Hints{"resource": hints})
		}
		for name, want := range c.Result {
			policy, closest := strings.CutSuffix(name, " closest")
			p, err := newPolicy(policy, options{closest: closest, maxNodes: defaultMaxNodes}, nodes)
			if err != nil {
				t.Fatal(err)
			}
			got, admit := p.decide(providers)
			if got != (Hint{Mask(want.Nodes), want.Preferred}) || admit != want.Admit {
				t.Errorf("case %d, %s: %v %v, not %v, of %v", i, name, got, admit, want, providers)
			}
		}
	}
}

func TestOptionsAreReadAndRefused(t *testing.T) {
	for _, tc := range []struct {
		given map[string]string
		want  string
	}{
		{map[string]string{optionClosest: "true", optionMaxNodes: "10"}, ""},
		{map[string]string{optionClosest: "perhaps"}, `bad value for option "prefer-closest-numa-nodes"`},
		{map[string]string{optionMaxNodes: "7"}, `the minimum value of "max-allowable-numa-nodes" should not be less than 8`},
		{map[string]string{"fastest": "true"}, `unknown Topology Manager Policy option: "fastest"`},
	} {
		_, err := parseOptions(tc.given, slog.New(slog.DiscardHandler))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%v: %v", tc.given, err)
		}
	}
	nodes := make([]machine.Node, 9)
	if _, err := newPolicy(PolicyRestricted, options{maxNodes: defaultMaxNodes}, nodes); err == nil || err.Error() != "unsupported on machines with more than 8 NUMA Nodes" {
		t.Errorf("nine nodes: %v", err)
	}
}
