package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// What a request must not cost more for: objects of another kind, namespaces, and watchers of the same kind and namespace whom it doesn't
// concern.
const (
	otherObjects    = 20000
	otherNamespaces = 2000
	otherWatchers   = 5000
)

// How much is done for each figure.
const (
	growthObjects  = 500 // in the namespace that is listed
	growthRounds   = 4   // over all of them
	growthLists    = 1000
	growthWatchers = 100
	growthChanges  = 200
	// growthSettling is how long controllers have to look at what was made.
	growthSettling = 30 * time.Second
)

// cost is what something takes of the servers' CPU.
type cost struct {
	of   string
	each time.Duration
}

// measureGrowth measures the same requests on a cluster that is empty and on one full of what doesn't concern them.
func measureGrowth(ctx context.Context, s *side, c *kubernetes.Clientset, r *results) error {
	alone, err := growthCosts(ctx, s, c, "growth-alone")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	watches, err := fill(ctx, c, "growth-beside")
	defer watches.Wait() //nolint:errcheck // they end by being cancelled
	defer cancel()
	if err != nil {
		return err
	}
	if err := sleep(ctx, growthSettling); err != nil {
		return err
	}
	beside, err := growthCosts(ctx, s, c, "growth-beside")
	if err != nil {
		return err
	}
	for i, a := range alone {
		r.add(fmt.Sprintf("CPU for %s: alone; beside %d other objects, %d namespaces, %d watchers", a.of, otherObjects, otherNamespaces, otherWatchers),
			"%s; %s", milliseconds(a.each), milliseconds(beside[i].each))
	}
	return nil
}

// fill makes what a namespace's ConfigMaps have nothing to do with.
func fill(ctx context.Context, c *kubernetes.Clientset, in string) (*errgroup.Group, error) {
	var watches, g errgroup.Group
	g.SetLimit(clients)
	for i := range otherNamespaces {
		g.Go(func() error { return createNamespace(ctx, c, "growth-"+strconv.Itoa(i)) })
	}
	for i := range otherObjects {
		g.Go(func() error {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "growth-" + strconv.Itoa(i)}, StringData: map[string]string{"key": "value"}}
			_, err := c.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return &watches, err
	}
	for i := range otherWatchers {
		w, err := c.CoreV1().ConfigMaps(in).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=nobody-" + strconv.Itoa(i)})
		if err != nil {
			return &watches, err
		}
		watches.Go(func() error {
			for range w.ResultChan() { //nolint:revive // nothing is expected
			}
			return nil
		})
	}
	return &watches, nil
}

func createNamespace(ctx context.Context, c *kubernetes.Clientset, name string) error {
	_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

func growthCosts(ctx context.Context, s *side, c *kubernetes.Clientset, in string) ([]cost, error) {
	if err := createNamespace(ctx, c, in); err != nil {
		return nil, err
	}
	maps := c.CoreV1().ConfigMaps(in)
	name := func(i int) string { return configMap(i % growthObjects).Name }
	var costs []cost
	for _, m := range []struct {
		of string
		n  int
		do func(i int) error
	}{
		{"a create", growthObjects, func(i int) error {
			_, err := maps.Create(ctx, configMap(i), metav1.CreateOptions{})
			return err
		}},
		{"a get", growthRounds * growthObjects, func(i int) error {
			_, err := maps.Get(ctx, name(i), metav1.GetOptions{})
			return err
		}},
		{"an update", growthRounds * growthObjects, func(i int) error {
			m := configMap(i % growthObjects)
			m.Data["changed"] = strconv.Itoa(i)
			_, err := maps.Update(ctx, m, metav1.UpdateOptions{})
			return err
		}},
		{fmt.Sprintf("a list of a namespace's %d", growthObjects), growthLists, func(int) error {
			_, err := maps.List(ctx, metav1.ListOptions{})
			return err
		}},
	} {
		each, err := perOperation(s, m.n, m.do)
		if err != nil {
			return nil, fmt.Errorf("%s in %s: %w", m.of, in, err)
		}
		costs = append(costs, cost{m.of, each})
	}
	each, err := deliveries(ctx, s, maps, growthWatchers, growthChanges)
	return append(costs, cost{fmt.Sprintf("a watch delivery (%d watchers)", growthWatchers), each}), err
}
