package e2e

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"
)

// clientConfig is client-go's configuration, read from the kubeconfig that "clipper up" has written.
func clientConfig(t *testing.T) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	return cfg
}

func clientset(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(clientConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func metadataClient(t *testing.T) metadata.Interface {
	t.Helper()
	c, err := metadata.NewForConfig(clientConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var readMapper = sync.OnceValues(func() (meta.RESTMapper, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	c, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	groups, err := restmapper.GetAPIGroupResources(c)
	return restmapper.NewDiscoveryRESTMapper(groups), err
})

// resourceOf finds the version in which the server prefers to serve "deployments.apps".
func resourceOf(t *testing.T, name string) schema.GroupVersionResource {
	t.Helper()
	mapper, err := readMapper()
	if err != nil {
		t.Fatal(err)
	}
	resource, err := mapper.ResourceFor(schema.ParseGroupResource(name).WithVersion(""))
	if err != nil {
		t.Fatal(err)
	}
	return resource
}

// awaitPods waits by a watch until the pods of a selector, by their names, are as wanted.
func awaitPods(t *testing.T, ns, selector string, within time.Duration, check func(map[string]corev1.Pod) error) map[string]corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	c := clientset(t).CoreV1().Pods(ns)
	list, err := c.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string]corev1.Pod{}
	for _, p := range list.Items {
		pods[p.Name] = p
	}
	if err = check(pods); err == nil {
		return pods
	}
	w := watcher{func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		o.LabelSelector = selector
		return c.Watch(ctx, o)
	}}
	_, watchErr := watchtools.Until(ctx, list.ResourceVersion, w, func(e watch.Event) (bool, error) {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			return false, errors.New(eventText(e))
		}
		if pods[pod.Name] = *pod; e.Type == watch.Deleted {
			delete(pods, pod.Name)
		}
		err = check(pods)
		return err == nil, nil
	})
	if watchErr != nil {
		t.Fatalf("not within %s: %v (%v)", within, err, watchErr)
	}
	return pods
}

func eventText(e watch.Event) string {
	if s, ok := e.Object.(*metav1.Status); ok {
		return s.Message
	}
	return string(e.Type)
}

// watcher makes a function what client-go's retrying watch asks for.
type watcher struct {
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// Watch implements cache.Watcher.
func (w watcher) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return w.watch(context.Background(), o)
}

// WatchWithContext implements cache.WatcherWithContext.
func (w watcher) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return w.watch(ctx, o)
}
