package controller_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/admission/plugins"
	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/all"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/authz"
	"clipper.dev/clipper/internal/authz/bootstrap"
	"clipper.dev/clipper/internal/authz/rbac"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/deployment"
	"clipper.dev/clipper/internal/controller/kubernetesservice"
	"clipper.dev/clipper/internal/controller/roster"
	"clipper.dev/clipper/internal/store/storetest"
)

// cluster is the real engine over a real store, with the controllers at work and a kubelet that makes every pod ready.
type cluster struct {
	t   *testing.T
	ctx context.Context
	client.Client
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	log := slog.New(strict{slog.NewTextHandler(t.Output(), nil), t})
	server, err := apiserver.New(ctx, apiserver.Config{Store: storetest.New(t), Rows: api.Registered(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	admin := server.Client(api.UserInfo{Name: "admin", Groups: []string{user.SystemPrivilegedGroup}})
	roles, err := rbac.New(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := plugins.Default(ctx, admin, plugins.Options{Disable: []string{"ServiceAccount"}})
	if err != nil {
		t.Fatal(err)
	}
	server.Install(apiserver.Security{Admission: chain, Authorizer: authz.Union{authz.Masters{}, roles}})
	running := make(chan error, 3)
	ready := make(chan struct{})
	go func() { running <- server.Run(ctx) }()
	if err := bootstrap.Apply(ctx, admin, roles); err != nil {
		t.Fatal(err)
	}
	go func() {
		running <- controller.Run(ctx, controller.Options{Client: func(name string) client.Client { return asController(server, name) }, Logger: log, Ready: func(controller.Graph) { close(ready) }},
			roster.Constructors(roster.Config{ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, Kubernetes: kubernetesservice.Config{
				ServiceIP: netip.MustParseAddr("10.96.0.1"), Port: 6443, Addresses: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} }}}))
	}()
	c := &cluster{t, ctx, admin}
	go func() { running <- c.kubelet() }()
	<-ready
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-running; err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	if _, err := client.Nodes.Create(ctx, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	c.namespace("default")
	return c
}

// controllerClient watches as the manager of all controllers and does everything else as one of them, as in a real cluster.
type controllerClient struct {
	client.Client
	views client.Client
}

func (c controllerClient) View(ctx context.Context, gvr schema.GroupVersionResource, sel client.Selection) (client.View, error) {
	return c.views.View(ctx, gvr, sel)
}

func asController(server *apiserver.Server, name string) client.Client {
	groups := []string{user.AllAuthenticated}
	if name == user.APIServerUser {
		groups = append(groups, user.SystemPrivilegedGroup)
	}
	if strings.HasPrefix(name, "system:serviceaccount:") {
		groups = append(groups, "system:serviceaccounts", "system:serviceaccounts:kube-system")
	}
	return controllerClient{
		Client: server.Client(api.UserInfo{Name: name, Groups: groups}),
		views:  server.Client(api.UserInfo{Name: user.KubeControllerManager, Groups: []string{user.AllAuthenticated}}),
	}
}

// strict fails the test when a controller is refused something.
type strict struct {
	slog.Handler
	t *testing.T
}

func (h strict) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if text := a.Value.String(); strings.Contains(text, "cannot") && strings.Contains(text, "forbidden") {
			h.t.Errorf("%s: %s", r.Message, text)
		}
		return true
	})
	return h.Handler.Handle(ctx, r)
}

func (h strict) WithAttrs(attrs []slog.Attr) slog.Handler {
	return strict{h.Handler.WithAttrs(attrs), h.t}
}

func (c *cluster) namespace(name string) {
	c.t.Helper()
	if _, err := client.Namespaces.Create(c.ctx, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil && !apierrors.IsAlreadyExists(err) {
		c.t.Fatal(err)
	}
}

// kubelet binds pods, makes them ready (unless their image is broken) and lets them go when they are deleted.
func (c *cluster) kubelet() error {
	view, err := client.Pods.View(c.ctx, c, client.Selection{})
	if err != nil {
		return err
	}
	next := 0
	return view.Subscribe(c.ctx, func(_, pod *corev1.Pod) {
		var err error
		switch {
		case pod == nil:
		case pod.DeletionTimestamp != nil:
			err = client.Pods.Delete(c.ctx, c, pod.Namespace, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		case pod.Spec.NodeName == "":
			_, err = client.Pods.CreateSub(c.ctx, c, pod.Namespace, pod.Name, "binding", &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}})
		case pod.Status.PodIP == "":
			next++
			pod = pod.DeepCopy()
			ip := fmt.Sprintf("10.1.%d.%d", next/250, next%250)
			pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
			if strings.Contains(pod.Spec.Containers[0].Image, "ends") {
				pod.Status.Phase = corev1.PodSucceeded
			} else if !strings.Contains(pod.Spec.Containers[0].Image, "broken") {
				pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
			}
			_, err = client.Pods.UpdateStatus(c.ctx, c, pod)
		}
		if err != nil && c.ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !apierrors.IsForbidden(err) {
			c.t.Errorf("kubelet: %v", err)
		}
	})
}

// eventually waits until cond holds, looking again at each change of the resource.
func eventually[T client.Object](c *cluster, kind client.Kind[T], what string, cond func() bool) {
	c.t.Helper()
	view, err := kind.View(c.ctx, c, client.Selection{})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
	defer cancel()
	if cond() {
		return
	}
	met := false
	_ = view.Subscribe(ctx, func(T, T) {
		if cond() {
			met = true
			cancel()
		}
	})
	if !met && !cond() {
		var list strings.Builder
		for _, o := range view.List("", nil) {
			fmt.Fprintf(&list, "\n%+v", o)
		}
		c.t.Fatalf("%s: did not come about. There are: %s", what, list.String())
	}
}

func web(replicas int32, image string) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: image}}}},
	}}
}

func (c *cluster) rolledOut(image string) func() bool {
	return func() bool {
		d, err := client.Deployments.Get(c.ctx, c, "default", "web")
		if err != nil {
			c.t.Fatal(err)
		}
		s := d.Status
		return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == *d.Spec.Replicas && s.AvailableReplicas == *d.Spec.Replicas && s.Replicas == *d.Spec.Replicas &&
			d.Spec.Template.Spec.Containers[0].Image == image
	}
}

func (c *cluster) update(change func(*appsv1.Deployment)) {
	c.t.Helper()
	for {
		d, err := client.Deployments.Get(c.ctx, c, "default", "web")
		if err != nil {
			c.t.Fatal(err)
		}
		d = d.DeepCopy()
		change(d)
		if _, err = client.Deployments.Update(c.ctx, c, d); err == nil {
			return
		} else if !apierrors.IsConflict(err) {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) service(name string) *corev1.Service {
	c.t.Helper()
	svc, err := client.Services.Get(c.ctx, c, "default", name)
	if err != nil {
		c.t.Fatal(err)
	}
	return svc
}

// changedSince waits until a Service's Endpoints and slices tell that time of their last change, or none.
func (c *cluster) changedSince(service, want string) {
	c.t.Helper()
	told := func(o client.Object) bool {
		at, ok := o.GetAnnotations()[corev1.EndpointsLastChangeTriggerTime]
		return at == want && ok == (want != "")
	}
	eventually(c, client.Endpoints, "since when the Endpoints have been so", func() bool {
		e, err := client.Endpoints.Get(c.ctx, c, "default", service)
		return err == nil && told(e)
	})
	eventually(c, client.EndpointSlices, "since when the slices have been so", func() bool {
		list, err := client.EndpointSlices.List(c.ctx, c, "default", labels.SelectorFromSet(labels.Set{"kubernetes.io/service-name": service}))
		return err == nil && len(list) == 1 && told(list[0])
	})
}

func TestANodeGetsItsRangeAndTheAPIItsService(t *testing.T) {
	c := newCluster(t)
	eventually(c, client.Nodes, "the node's range", func() bool {
		n, err := client.Nodes.Get(c.ctx, c, "", "n1")
		return err == nil && n.Spec.PodCIDR == "10.244.0.0/24"
	})
	eventually(c, client.EndpointSlices, "the API's addresses", func() bool {
		s, err := client.EndpointSlices.Get(c.ctx, c, "default", "kubernetes")
		return err == nil && len(s.Endpoints) == 1
	})
}

func TestADeploymentLivesOnTheRealEngine(t *testing.T) {
	c := newCluster(t)
	if _, err := client.Deployments.Create(c.ctx, c, web(3, "demo:v1")); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.Deployments, "the first version", c.rolledOut("demo:v1"))

	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{ClusterIP: "None", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
		Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	if _, err := client.Services.Create(c.ctx, c, svc); err != nil {
		t.Fatal(err)
	}
	addresses := func(n int) func() bool {
		return func() bool {
			e, err := client.Endpoints.Get(c.ctx, c, "default", "web")
			return err == nil && len(e.Subsets) == 1 && len(e.Subsets[0].Addresses) == n
		}
	}
	eventually(c, client.Endpoints, "three addresses", addresses(3))
	eventually(c, client.EndpointSlices, "a slice with three endpoints", func() bool {
		list, err := client.EndpointSlices.List(c.ctx, c, "default", labels.SelectorFromSet(labels.Set{"kubernetes.io/service-name": "web"}))
		return err == nil && len(list) == 1 && len(list[0].Endpoints) == 3 && *list[0].Endpoints[0].Conditions.Ready
	})
	c.changedSince("web", c.service("web").CreationTimestamp.UTC().Format(time.RFC3339))

	c.update(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "demo:v2" })
	eventually(c, client.Deployments, "the second version", c.rolledOut("demo:v2"))
	d, _ := client.Deployments.Get(c.ctx, c, "default", "web")
	if d.Annotations[deployment.RevisionAnnotation] != "2" {
		t.Errorf("the revision is %q", d.Annotations[deployment.RevisionAnnotation])
	}
	c.update(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "demo:broken" })
	eventually(c, client.Pods, "a broken pod", func() bool {
		list, _ := client.Pods.List(c.ctx, c, "default", nil)
		for _, p := range list {
			if strings.Contains(p.Spec.Containers[0].Image, "broken") && p.Status.PodIP != "" {
				return true
			}
		}
		return false
	})
	eventually(c, client.Endpoints, "the old version serves", func() bool {
		e, err := client.Endpoints.Get(c.ctx, c, "default", "web")
		return err == nil && len(e.Subsets) == 1 && len(e.Subsets[0].Addresses) == 3
	})
	c.update(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "demo:v2" })
	eventually(c, client.Deployments, "back to the second version", c.rolledOut("demo:v2"))
	c.update(func(d *appsv1.Deployment) { *d.Spec.Replicas = 1 })
	eventually(c, client.Deployments, "scaled down", c.rolledOut("demo:v2"))
	eventually(c, client.Endpoints, "one address", addresses(1))
	c.changedSince("web", "") // pods that go are no change that was told a time of

	foreground := metav1.DeletePropagationForeground
	if err := client.Deployments.Delete(c.ctx, c, "default", "web", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.Deployments, "deleted in the foreground", func() bool {
		_, err := client.Deployments.Get(c.ctx, c, "default", "web")
		if !apierrors.IsNotFound(err) {
			return false
		}
		pods, _ := client.Pods.List(c.ctx, c, "default", nil)
		sets, _ := client.ReplicaSets.List(c.ctx, c, "default", nil)
		if len(pods)+len(sets) > 0 {
			t.Errorf("it went before %d sets and %d pods", len(sets), len(pods))
		}
		return true
	})
	if err := client.Services.Delete(c.ctx, c, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.EndpointSlices, "the slices go with their Service", func() bool {
		list, err := client.EndpointSlices.List(c.ctx, c, "default", labels.SelectorFromSet(labels.Set{"kubernetes.io/service-name": "web"}))
		return err == nil && len(list) == 0
	})
}

func TestANamespaceGoesWithAllThatIsInIt(t *testing.T) {
	c := newCluster(t)
	c.namespace("gone")
	d := web(2, "demo:v1")
	d.Namespace = "gone"
	if _, err := client.Deployments.Create(c.ctx, c, d); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ConfigMaps.Create(c.ctx, c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "gone", Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.Pods, "two pods", func() bool {
		list, err := client.Pods.List(c.ctx, c, "gone", nil)
		return err == nil && len(list) == 2
	})
	if err := client.Namespaces.Delete(c.ctx, c, "", "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.Namespaces, "the namespace is gone", func() bool {
		_, err := client.Namespaces.Get(c.ctx, c, "", "gone")
		return apierrors.IsNotFound(err)
	})
	for _, kind := range c.Kinds(c.ctx, nil) {
		if !kind.Namespaced {
			continue
		}
		list, err := c.List(c.ctx, kind.GroupVersionResource, "gone", nil)
		if err == nil && len(list) > 0 {
			t.Errorf("%d %s are left", len(list), kind.GroupVersionResource.Resource)
		}
	}
}
