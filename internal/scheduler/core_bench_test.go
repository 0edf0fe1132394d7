package scheduler

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// BenchmarkDecisions reports how many pods a second the core decides about: pods that are equal, on nodes in ten zones.
func BenchmarkDecisions(b *testing.B) {
	app := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	term := func(key string) []corev1.PodAffinityTerm {
		return []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: app}}
	}
	for _, load := range []struct {
		name   string
		change func(*corev1.Pod)
		before func(*core)
	}{
		{"plain", func(*corev1.Pod) {}, nil},
		{"of_a_service", func(*corev1.Pod) {}, func(s *core) { s.cluster.setService("ns", "web", map[string]string{"app": "web"}) }},
		{"spread_over_zones_and_hosts", func(p *corev1.Pod) {
			for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
				p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
					MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app,
				})
			}
		}, nil},
		{"anti_affinity_to_hosts", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(corev1.LabelHostname)}}
		}, nil},
		{"affinity_to_a_zone", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(corev1.LabelTopologyZone)}}
		}, nil},
	} {
		for _, nodes := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("%s/%d_nodes", load.name, nodes), func(b *testing.B) { decideAll(b, nodes, load.change, load.before) })
		}
	}
}

// decideAll decides about b.N pods; the cluster is emptied whenever each node has had one.
func decideAll(b *testing.B, nodes int, change func(*corev1.Pod), before func(*core)) {
	s := newCore(DefaultName)
	for i := range nodes {
		s.setNode(testNode(fmt.Sprint("n", i), "64", "256Gi", func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = fmt.Sprint("z", i%10) }), start)
	}
	if before != nil {
		before(s)
	}
	labelled := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} }
	b.ResetTimer()
	deciding := time.Duration(0)
	for i := range b.N {
		if i%nodes == 0 && i > 0 {
			b.StopTimer()
			for j := i - nodes; j < i; j++ {
				s.removePod(types.UID(fmt.Sprint("p", j)), start)
			}
			b.StartTimer()
		}
		s.setPod(testPod(fmt.Sprint("p", i), "100m", "128Mi", labelled, change), start)
		began := time.Now()
		d, ok := s.next(start)
		deciding += time.Since(began)
		if !ok || d.node == "" {
			b.Fatalf("pod %d has no node: %s", i, d.message)
		}
		bound := *d.pod.pod
		bound.Spec.NodeName = d.node
		s.setPod(&bound, start) // The API tells of the binding.
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
	b.ReportMetric(float64(deciding.Nanoseconds())/float64(b.N), "ns/decision")
}
