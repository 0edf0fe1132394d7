// Command resources records what upstream's CPU, memory and topology managers decide on machines that are made up, with requests at random from fixed
// seeds, and the files in which they keep it. internal/kubelet/resources replays the records in its tests.
//
//	cd test/conformance && go run ./resources ../../internal/kubelet/resources
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager/bitmask"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "name the folder of the managers' packages")
		os.Exit(2)
	}
	klog.SetLogger(logr.Discard())
	data := func(pkg string) string { return filepath.Join(os.Args[1], pkg, "testdata") }
	cpuCases(data("cpu"))
	mergeCases(data("topology"))
	memCases(data("memory"))
	states(data)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func write(path string, v any) {
	b, err := json.Marshal(v)
	must(err)
	must(os.WriteFile(path, append(b, '\n'), 0o644))
}

// store is a topology manager that has decided.
type store struct{ hint topologymanager.TopologyHint }

func (s *store) GetAffinity(string, string) topologymanager.TopologyHint { return s.hint }
func (s *store) GetPolicy() topologymanager.Policy                       { return topologymanager.NewNonePolicy() }
func (s *store) Name() string                                            { return "x" }

// mask makes upstream's set of a number's bits; num is the reverse.
func mask(m uint64) bitmask.BitMask {
	if m == 0 {
		return nil
	}
	var bits []int
	for i := 0; i < 64; i++ {
		if m&(1<<i) != 0 {
			bits = append(bits, i)
		}
	}
	b, err := bitmask.NewBitMask(bits...)
	must(err)
	return b
}

func num(b bitmask.BitMask) (m uint64) {
	if b == nil {
		return 0
	}
	for _, n := range b.GetBits() {
		m |= 1 << n
	}
	return m
}

// Hint is a hint in the record.
type Hint struct {
	Nodes     uint64 `json:"n"`
	Preferred bool   `json:"p,omitempty"`
}

func hints(in []topologymanager.TopologyHint) []Hint {
	out := []Hint{}
	for _, h := range in {
		out = append(out, Hint{num(h.NUMANodeAffinity), h.Preferred})
	}
	return out
}
