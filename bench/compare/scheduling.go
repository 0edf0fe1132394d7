package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	simulatedNodes = 1000
	scheduledPods  = 1000 // for each load
	writers        = 32   // create them at the same time
)

var scheduledApp = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "bench"}}

// load is one of the sorts of pods that upstream measures its scheduler with.
type load struct {
	name   string
	change func(*corev1.PodSpec)
}

func loads() []load {
	term := func(key string) []corev1.PodAffinityTerm {
		return []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: scheduledApp}}
	}
	return []load{
		{"plain", func(*corev1.PodSpec) {}},
		{"spread over zones", func(s *corev1.PodSpec) {
			s.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
				MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: scheduledApp,
			}}
		}},
		{"anti-affinity", func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(corev1.LabelHostname)}}
		}},
		{"affinity", func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(corev1.LabelTopologyZone)}}
		}},
	}
}

// measureScheduling creates pods of each load on simulated nodes, until all have a node.
func measureScheduling(ctx context.Context, s *side, c *kubernetes.Clientset, r *results) error {
	if err := makeNodes(ctx, c); err != nil {
		return err
	}
	for _, l := range loads() {
		rate, err := podsBound(ctx, c, l)
		if err != nil {
			r.fail("scheduler, "+l.name, err)
			continue
		}
		r.add(fmt.Sprintf("pods created and bound on %d nodes, %s", simulatedNodes, l.name), "%.0f /s", rate)
	}
	return nil
}

// makeNodes creates the nodes, in ten zones.
func makeNodes(ctx context.Context, c kubernetes.Interface) error {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	return atOnce(writers, simulatedNodes, func(i int) error {
		name := fmt.Sprintf("bench-%d", i)
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprint("zone-", i%10),
		}}}
		n.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()},
		}}
		_, err := c.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
		return err
	})
}

// podsBound tells how many pods of a load were created and bound per second, in a namespace of their own, which goes afterwards.
func podsBound(ctx context.Context, c kubernetes.Interface, l load) (rate float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	ns, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}}, metav1.CreateOptions{})
	if err != nil {
		return 0, err
	}
	defer func() {
		now := int64(0)
		err = errors.Join(err, c.CoreV1().Pods(ns.Name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}),
			c.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}))
	}()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "bench"}}
	if _, err := c.CoreV1().ServiceAccounts(ns.Name).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return 0, err
	}
	w, err := watchPods(ctx, c, ns.Name, "")
	if err != nil {
		return 0, err
	}
	defer w.stop()
	began := time.Now()
	var g errgroup.Group
	g.Go(func() error {
		return atOnce(writers, scheduledPods, func(i int) error {
			_, err := c.CoreV1().Pods(ns.Name).Create(ctx, scheduledPod(i, l), metav1.CreateOptions{})
			return err
		})
	})
	err = w.until(ctx, scheduledPods, bound)
	took := time.Since(began)
	return scheduledPods / took.Seconds(), errors.Join(err, g.Wait())
}

func scheduledPod(i int, l load) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("pod-", i), Labels: scheduledApp.MatchLabels}}
	p.Spec = corev1.PodSpec{
		ServiceAccountName: "bench",
		// Simulated nodes beat no heart.
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{Name: "c", Image: pauseImage, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
		}}}},
	}
	l.change(&p.Spec)
	return p
}

// atOnce does something n times, from several goroutines.
func atOnce(goroutines, n int, do func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(goroutines)
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	return g.Wait()
}
