package main

import (
	"fmt"
	"math/rand/v2"

	cadvisorapi "github.com/google/cadvisor/info/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
)

// Merge is a choice of hints, and what each policy makes of it.
type Merge struct {
	Nodes     int                `json:"nodes"`
	Distances [][]uint64         `json:"distances,omitempty"`
	Hints     [][]Hint           `json:"hints"` // by provider; null has no preference
	Result    map[string]Verdict `json:"result"`
}

// Verdict is a policy's.
type Verdict struct {
	Hint
	Admit bool `json:"a,omitempty"`
}

func mergeCases(dir string) {
	r := rand.New(rand.NewPCG(3, 4))
	var cases []Merge
	for i := 0; i < 300; i++ {
		n := 1 + r.IntN(5)
		m := Merge{Nodes: n, Result: map[string]Verdict{}}
		var topo []cadvisorapi.Node
		for a := 0; a < n; a++ {
			var row []uint64
			for b := 0; b < n; b++ {
				d := uint64(10)
				if a != b {
					d = 11 + uint64((a^b)*5%13)
				}
				row = append(row, d)
			}
			m.Distances = append(m.Distances, row)
			topo = append(topo, cadvisorapi.Node{Id: a, Distances: row})
		}
		var providers []map[string][]topologymanager.TopologyHint
		for p := 0; p < 1+r.IntN(3); p++ {
			if r.IntN(8) == 0 {
				m.Hints = append(m.Hints, nil)
				providers = append(providers, nil)
				continue
			}
			list := []Hint{}
			for j := 0; j < r.IntN(6); j++ {
				list = append(list, Hint{uint64(1 + r.IntN(1<<n-1)), r.IntN(2) == 0})
			}
			m.Hints = append(m.Hints, list)
			in := []topologymanager.TopologyHint{}
			for _, h := range list {
				in = append(in, topologymanager.TopologyHint{NUMANodeAffinity: mask(h.Nodes), Preferred: h.Preferred})
			}
			providers = append(providers, map[string][]topologymanager.TopologyHint{fmt.Sprint("r", p): in})
		}
		for _, closest := range []bool{false, true} {
			o := topologymanager.PolicyOptions{PreferClosestNUMA: closest, MaxAllowableNUMANodes: 8}
			info, err := topologymanager.NewNUMAInfo(topo, o)
			must(err)
			for _, p := range []topologymanager.Policy{topologymanager.NewBestEffortPolicy(info, o), topologymanager.NewRestrictedPolicy(info, o), topologymanager.NewSingleNumaNodePolicy(info, o)} {
				h, admit := p.Merge(klog.Logger{}, providers)
				name := p.Name()
				if closest {
					name += " closest"
				}
				m.Result[name] = Verdict{Hint{num(h.NUMANodeAffinity), h.Preferred}, admit}
			}
		}
		cases = append(cases, m)
	}
	write(dir+"/merges.json", cases)
}
