// Package objects keeps the ConfigMaps and Secrets that the pods of a node refer to at hand.
//
//	c := objects.New(ctx, client, func(uid types.UID) { … })
//	c.Register(pod)
//	cm, err := c.ConfigMap(ctx, namespace, name)
//	c.Forget(pod.UID)
//
// Pods flow in; for each object that at least one of them names there is one live view, so that an agent watches no more than it may read and
// needs. A callback tells which pods are concerned when an object changes.
package objects

import (
	"context"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

// firstRead bounds the wait for a view to be complete; after that the object is read by itself.
const firstRead = 10 * time.Second

type key struct {
	gvr             schema.GroupVersionResource
	namespace, name string
}

type entry struct {
	view   client.View
	cancel context.CancelFunc
	pods   map[types.UID]bool
	done   chan struct{}
}

// Cache holds the objects. Its methods may be called concurrently.
type Cache struct {
	ctx     context.Context
	client  client.Client
	changed func(types.UID)

	mu      sync.Mutex
	entries map[key]*entry
	pods    map[types.UID]map[key]bool
}

// New returns an empty cache, whose views end with ctx. changed is called, from any goroutine, for pods one of whose objects has changed.
func New(ctx context.Context, c client.Client, changed func(types.UID)) *Cache {
	return &Cache{ctx: ctx, client: c, changed: changed, entries: map[key]*entry{}, pods: map[types.UID]map[key]bool{}}
}

// Register makes the cache hold what the pod names; calling it again after the pod has changed follows the change.
func (c *Cache) Register(pod *corev1.Pod) {
	want := references(pod)
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.pods[pod.UID]
	for k := range want {
		if !have[k] {
			c.add(k, pod.UID)
		}
	}
	for k := range have {
		if !want[k] {
			c.drop(k, pod.UID)
		}
	}
	c.pods[pod.UID] = want
}

// Forget lets go of what only this pod has named.
func (c *Cache) Forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.pods[uid] {
		c.drop(k, uid)
	}
	delete(c.pods, uid)
}

// Wait waits for the cache's goroutines, which end with its context.
func (c *Cache) Wait() {
	c.mu.Lock()
	entries := maps.Clone(c.entries)
	c.mu.Unlock()
	for _, e := range entries {
		<-e.done
	}
}

func (c *Cache) add(k key, uid types.UID) {
	if e := c.entries[k]; e != nil {
		e.pods[uid] = true
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	view, err := c.client.View(ctx, k.gvr, client.Selection{Namespace: k.namespace, Name: k.name})
	if err != nil {
		cancel() // it's read by itself then
		return
	}
	e := &entry{view: view, cancel: cancel, pods: map[types.UID]bool{uid: true}, done: make(chan struct{})}
	c.entries[k] = e
	go func() {
		defer close(e.done)
		// The error is that of the ended context.
		_ = view.Subscribe(ctx, func(client.Change) { c.tell(e) })
	}()
}

func (c *Cache) tell(e *entry) {
	c.mu.Lock()
	pods := maps.Clone(e.pods)
	c.mu.Unlock()
	for uid := range pods {
		c.changed(uid)
	}
}

func (c *Cache) drop(k key, uid types.UID) {
	e := c.entries[k]
	if e == nil {
		return
	}
	delete(e.pods, uid)
	if len(e.pods) == 0 {
		e.cancel()
		delete(c.entries, k)
	}
}

// ConfigMap returns a ConfigMap, which is read-only.
func (c *Cache) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	if o := c.held(ctx, key{client.ConfigMaps.GVR, namespace, name}); o != nil {
		return o.(*corev1.ConfigMap), nil
	}
	cm, err := client.ConfigMaps.Get(ctx, c.client, namespace, name)
	return cm, absent(err, "configmap", name)
}

// Secret returns a Secret, which is read-only.
func (c *Cache) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	if o := c.held(ctx, key{client.Secrets.GVR, namespace, name}); o != nil {
		return o.(*corev1.Secret), nil
	}
	s, err := client.Secrets.Get(ctx, c.client, namespace, name)
	return s, absent(err, "secret", name)
}

// absent puts absence into the words of upstream's kubelet, which go into events and statuses.
func absent(err error, what, name string) error {
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(corev1.Resource(what), name)
	}
	return err
}

// held returns the object from its view; nil when it has to be read: it's not there yet, or may be by now.
func (c *Cache) held(ctx context.Context, k key) client.Object {
	c.mu.Lock()
	e := c.entries[k]
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstRead)
	defer cancel()
	if err := e.view.WaitFor(ctx, 0); err != nil {
		return nil
	}
	o, ok := e.view.Get(k.namespace, k.name)
	if !ok {
		return nil
	}
	return o
}

// references lists what a pod names.
func references(pod *corev1.Pod) map[key]bool {
	out := map[key]bool{}
	configMap := func(name string) { out[key{client.ConfigMaps.GVR, pod.Namespace, name}] = true }
	secret := func(name string) { out[key{client.Secrets.GVR, pod.Namespace, name}] = true }
	for _, s := range pod.Spec.ImagePullSecrets {
		secret(s.Name)
	}
	for i := range pod.Spec.Volumes {
		volumeReferences(&pod.Spec.Volumes[i], configMap, secret)
	}
	container := func(c *corev1.Container) {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				configMap(from.ConfigMapRef.Name)
			}
			if from.SecretRef != nil {
				secret(from.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				configMap(r.Name)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				secret(r.Name)
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		container(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		container(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		container((*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	delete(out, key{client.Secrets.GVR, pod.Namespace, ""})
	return out
}

func volumeReferences(v *corev1.Volume, configMap, secret func(string)) {
	switch {
	case v.ConfigMap != nil:
		configMap(v.ConfigMap.Name)
	case v.Secret != nil:
		secret(v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				configMap(s.ConfigMap.Name)
			}
			if s.Secret != nil {
				secret(s.Secret.Name)
			}
		}
	}
}
