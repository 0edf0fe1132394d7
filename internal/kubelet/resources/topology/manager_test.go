package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/metrics"
)

// fakeProvider gives hints and notes what it is told.
type fakeProvider struct {
	m      *Manager
	hints  Hints
	refuse error
	calls  []string
}

func (p *fakeProvider) Hints(_ *corev1.Pod, c *corev1.Container) Hints {
	p.calls = append(p.calls, "hints "+c.Name)
	return p.hints
}

func (p *fakeProvider) PodHints(*corev1.Pod) Hints {
	p.calls = append(p.calls, "hints of the pod")
	return p.hints
}

func (p *fakeProvider) Allocate(_ context.Context, pod *corev1.Pod, c *corev1.Container) error {
	p.calls = append(p.calls, fmt.Sprintf("allocate %s from %v", c.Name, p.m.Affinity(pod.UID, c.Name).Nodes))
	return p.refuse
}

func TestPodsAreAdmittedByPolicyAndScope(t *testing.T) {
	one := Hints{"cpu": {{Nodes: MaskOf(1), Preferred: true}, {Nodes: MaskOf(0, 1)}}}
	both := Hints{"cpu": {{Nodes: MaskOf(0, 1)}}}
	none := Hints{"cpu": {}}
	affinity := &Refusal{"TopologyAffinityError", "Resources cannot be allocated with Topology locality"}
	for _, tc := range []struct {
		name, policy, scope string
		hints               Hints
		refuse              error
		want                *Refusal
		calls               []string
	}{
		{"none asks nobody for hints", PolicyNone, ScopeContainer, one, nil, nil, []string{"allocate init from 0", "allocate app from 0"}},
		{"each container gets its nodes", PolicySingleNUMANode, ScopeContainer, one, nil, nil, []string{"hints init", "allocate init from 10", "hints app", "allocate app from 10"}},
		{"a pod gets them once", PolicyRestricted, ScopePod, one, nil, nil, []string{"hints of the pod", "allocate init from 10", "allocate app from 10"}},
		{"best-effort takes what there is", PolicyBestEffort, ScopePod, both, nil, nil, []string{"hints of the pod", "allocate init from 11", "allocate app from 11"}},
		{"restricted wants preferred hints", PolicyRestricted, ScopeContainer, both, nil, affinity, []string{"hints init"}},
		{"a request that no node can serve", PolicySingleNUMANode, ScopePod, none, nil, affinity, []string{"hints of the pod"}},
		{"a provider's error is unexpected", PolicyNone, ScopeContainer, nil, errors.New("no device"), &Refusal{"UnexpectedAdmissionError", "Allocate failed due to no device, which is unexpected"}, []string{"allocate init from 0"}},
		{"unless it has a reason", PolicyNone, ScopeContainer, nil, fmt.Errorf("in passing: %w", &Refusal{"SMTAlignmentError", "odd"}), &Refusal{"SMTAlignmentError", "odd"}, []string{"allocate init from 0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := New(Config{Policy: tc.policy, Scope: tc.scope, Nodes: []machine.Node{{ID: 0}, {ID: 1}}, Metrics: metrics.New(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			p := &fakeProvider{m: m, hints: tc.hints, refuse: tc.refuse}
			m.Add(p)
			pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "init"}}, Containers: []corev1.Container{{Name: "app"}}}}
			pod.UID = "uid"
			got := m.Admit(t.Context(), pod)
			if (got == nil) != (tc.want == nil) || got != nil && *got != *tc.want {
				t.Errorf("refusal %v, not %v", got, tc.want)
			}
			if !slices.Equal(p.calls, tc.calls) {
				t.Errorf("calls %q, not %q", p.calls, tc.calls)
			}
			m.Keep(map[types.UID]*corev1.Pod{})
			if a := m.Affinity("uid", "app"); a != (Hint{}) {
				t.Errorf("a pod that has gone has an affinity: %v", a)
			}
		})
	}
}
