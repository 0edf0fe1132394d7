// Package scheduler measures scheduling through the API: pods created and bound per second, over HTTPS, on simulated nodes.
// What the scheduler's core does alone is measured in internal/scheduler.
//
//	clipper server --no-node --name bench &
//	go test -bench . -benchtime 1x ./bench/scheduler -kubeconfig /etc/clipper-bench/kubeconfig
package scheduler

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "the cluster to measure, which has no nodes of its own")
	nodes      = flag.Int("nodes", 1000, "simulated nodes")
	pods       = flag.Int("pods", 1000, "pods for each load")
)

// writers create objects at the same time.
const writers = 32

var app = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "bench"}}

// BenchmarkPodsBound reports pods created and bound per second, for each sort of pod that upstream measures.
func BenchmarkPodsBound(b *testing.B) {
	if *kubeconfig == "" {
		b.Skip("no -kubeconfig")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	config.QPS, config.Burst, config.ContentType = -1, -1, "application/vnd.kubernetes.protobuf"
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	makeNodes(b, c)
	term := func(key string) []corev1.PodAffinityTerm {
		return []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: app}}
	}
	for _, load := range []struct {
		name   string
		change func(*corev1.PodSpec)
	}{
		{"plain", func(*corev1.PodSpec) {}},
		{"spread", func(s *corev1.PodSpec) {
			s.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app}}
		}},
		{"anti-affinity", func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(corev1.LabelHostname)}}
		}},
		{"affinity", func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(corev1.LabelTopologyZone)}}
		}},
	} {
		b.Run(fmt.Sprintf("%s/%d_nodes", load.name, *nodes), func(b *testing.B) {
			for i := range b.N {
				measure(b, c, fmt.Sprintf("bench-%s-%d-%d", load.name, i, time.Now().UnixNano()), load.change)
			}
		})
	}
}

// makeNodes creates the nodes, in ten zones, and removes them at the end.
func makeNodes(b *testing.B, c kubernetes.Interface) {
	ctx := context.Background()
	forEach(b, *nodes, func(i int) error {
		name := fmt.Sprintf("bench-%d", i)
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprint("zone-", i%10)}}}
		room := corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110"),
		}
		n.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}}
		_, err := c.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
		return err
	})
	b.Cleanup(func() {
		forEach(b, *nodes, func(i int) error {
			return c.CoreV1().Nodes().Delete(ctx, fmt.Sprintf("bench-%d", i), metav1.DeleteOptions{})
		})
	})
}

// measure creates pods in a namespace of their own and waits until all have a node.
func measure(b *testing.B, c kubernetes.Interface, namespace string, change func(*corev1.PodSpec)) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	b.StopTimer()
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	if _, err := c.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "bench"}}, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	watch, err := c.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName!="})
	if err != nil {
		b.Fatal(err)
	}
	defer watch.Stop()
	b.StartTimer()
	began := time.Now()
	bound := make(chan error, 1)
	go func() {
		seen := map[string]bool{}
		for e := range watch.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok {
				seen[p.Name] = true
			}
			if len(seen) == *pods {
				bound <- nil
				return
			}
		}
		bound <- fmt.Errorf("%d of %d pods have a node: %w", len(seen), *pods, context.Cause(ctx))
	}()
	forEach(b, *pods, func(i int) error {
		_, err := c.CoreV1().Pods(namespace).Create(ctx, benchPod(namespace, i, change), metav1.CreateOptions{})
		return err
	})
	created := time.Since(began)
	if err := <-bound; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(*pods)/time.Since(began).Seconds(), "pods/s")
	b.ReportMetric(float64(*pods)/created.Seconds(), "created/s")
	b.StopTimer()
	now := int64(0)
	if err := c.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}); err != nil {
		b.Fatal(err)
	}
	if err := c.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

func benchPod(namespace string, i int, change func(*corev1.PodSpec)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("pod-", i), Labels: app.MatchLabels}}
	p.Spec = corev1.PodSpec{
		ServiceAccountName: "bench",
		// Simulated nodes beat no heart.
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{Name: "c", Image: "registry.k8s.io/pause:3.10.2", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
		}}}},
	}
	change(&p.Spec)
	return p
}

func forEach(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(writers)
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}
