package apiserver_test

import (
	"context"
	"encoding/json"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func TestPodsAreDeletedGracefully(t *testing.T) {
	ctx := context.Background()
	pods := newFixture(t, testPods).clients(t, "").CoreV1().Pods("default")
	must(pods.Create(ctx, pod("p", "n1"), metav1.CreateOptions{}))(t)
	if err := pods.Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p := must(pods.Get(ctx, "p", metav1.GetOptions{}))(t)
	if p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 || p.Generation != 2 {
		t.Fatalf("got %+v", p.ObjectMeta)
	}
	first := p.DeletionTimestamp
	five, zero := int64(5), int64(0)
	if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &five}); err != nil {
		t.Fatal(err)
	}
	p = must(pods.Get(ctx, "p", metav1.GetOptions{}))(t)
	if *p.DeletionGracePeriodSeconds != 5 || !p.DeletionTimestamp.Before(first) {
		t.Fatalf("not shortened: %+v", p.ObjectMeta)
	}
	if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(ctx, "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("got %v", err)
	}
	must(pods.Create(ctx, pod("unbound", ""), metav1.CreateOptions{}))(t)
	if err := pods.Delete(ctx, "unbound", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(ctx, "unbound", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("got %v", err)
	}
}

func TestAStatusUpdateTouchesTheStatusAlone(t *testing.T) {
	ctx := context.Background()
	pods := newFixture(t, testPods).clients(t, "").CoreV1().Pods("default")
	p := must(pods.Create(ctx, pod("p", ""), metav1.CreateOptions{}))(t)
	p.Spec.NodeName, p.Status.Phase = "n", corev1.PodRunning
	p = must(pods.UpdateStatus(ctx, p, metav1.UpdateOptions{}))(t)
	if p.Spec.NodeName != "" || p.Status.Phase != corev1.PodRunning || p.Generation != 1 {
		t.Fatalf("got %+v %+v", p.Spec, p.Status)
	}
	p.Spec.NodeName, p.Status.Phase = "n", corev1.PodFailed
	p = must(pods.Update(ctx, p, metav1.UpdateOptions{}))(t)
	if p.Spec.NodeName != "n" || p.Status.Phase != corev1.PodRunning || p.Generation != 2 {
		t.Fatalf("got %+v %+v generation %d", p.Spec, p.Status, p.Generation)
	}
	p = must(pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status"))(t)
	if p.Status.Phase != corev1.PodSucceeded {
		t.Fatalf("got %+v", p.Status)
	}
}

func TestABindingIsAGuardedUpdateOfThePod(t *testing.T) {
	ctx := context.Background()
	c := newFixture(t, testPods, testBindings).clients(t, "").CoreV1()
	for i, name := range []string{"a", "b"} {
		must(c.Pods("default").Create(ctx, pod(name, ""), metav1.CreateOptions{}))(t)
		binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
		bind := func() error {
			if i == 0 {
				return c.Pods("default").Bind(ctx, binding, metav1.CreateOptions{})
			}
			return c.RESTClient().Post().Namespace("default").Resource("bindings").Body(binding).Do(ctx).Error()
		}
		if err := bind(); err != nil {
			t.Fatal(err)
		}
		if err := bind(); !apierrors.IsConflict(err) {
			t.Errorf("bound twice: %v", err)
		}
	}
	list := must(c.Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"}))(t)
	if len(list.Items) != 2 {
		t.Errorf("by node: %v", list.Items)
	}
	w := must(c.Pods("").Watch(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"}))(t)
	defer w.Stop()
	for range 2 {
		if e := <-w.ResultChan(); e.Type != "ADDED" {
			t.Errorf("got %v", e)
		}
	}
}

func TestScaleChangesReplicasAndGeneration(t *testing.T) {
	ctx := context.Background()
	c := newFixture(t, testDeployments).clients(t, "").AppsV1().Deployments("default")
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
	}}
	must(c.Create(ctx, d, metav1.CreateOptions{}))(t)
	scale := must(c.GetScale(ctx, "d", metav1.GetOptions{}))(t)
	if scale.Spec.Replicas != 1 || scale.Status.Selector != "a=b" {
		t.Fatalf("got %+v", scale)
	}
	scale.Spec.Replicas = 3
	must(c.UpdateScale(ctx, "d", scale, metav1.UpdateOptions{}))(t)
	if _, err := c.UpdateScale(ctx, "d", scale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an outdated scale: %v", err)
	}
	must(c.Patch(ctx, "d", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{}, "scale"))(t)
	got := must(c.Get(ctx, "d", metav1.GetOptions{}))(t)
	if *got.Spec.Replicas != 5 || got.Generation != 3 {
		t.Fatalf("got %d replicas, generation %d", *got.Spec.Replicas, got.Generation)
	}
	got.Labels = map[string]string{"x": "y"}
	if got = must(c.Update(ctx, got, metav1.UpdateOptions{}))(t); got.Generation != 3 {
		t.Errorf("metadata changed the generation to %d", got.Generation)
	}
}

func TestANamespaceTerminatesBeforeItGoes(t *testing.T) {
	ctx := context.Background()
	c := newFixture(t, testNamespaces).clients(t, "").CoreV1().Namespaces()
	must(c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, metav1.CreateOptions{}))(t)
	for range 2 {
		if err := c.Delete(ctx, "ns", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ns := must(c.Get(ctx, "ns", metav1.GetOptions{}))(t)
	if ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil {
		t.Fatalf("got %+v", ns)
	}
	ns.Spec.Finalizers = nil
	must(c.Finalize(ctx, ns, metav1.UpdateOptions{}))(t)
	if _, err := c.Get(ctx, "ns", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("got %v", err)
	}
}

func TestDiscoveryTellsWhatIsServed(t *testing.T) {
	f := newFixture(t, testPods, testBindings, testDeployments, testNamespaces)
	c := f.clients(t, "").Discovery()
	groups, resources, err := c.ServerGroupsAndResources() // aggregated
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != 2 || len(resources) != 2 {
		t.Fatalf("got %v", groups)
	}
	verbs := map[string][]string{}
	for _, list := range resources {
		for _, r := range list.APIResources {
			verbs[list.GroupVersion+" "+r.Name] = r.Verbs
		}
	}
	for name, want := range map[string]int{
		"v1 pods": 8, "v1 pods/log": 1, "v1 pods/exec": 2, "v1 pods/binding": 1, "v1 pods/status": 3, "v1 bindings": 1, "apps/v1 deployments/scale": 3, "v1 namespaces/finalize": 1,
	} {
		if len(verbs[name]) != want {
			t.Errorf("%s: %v", name, verbs[name])
		}
	}
	var list metav1.APIResourceList
	body := must(c.RESTClient().Get().AbsPath("/api/v1").DoRaw(context.Background()))(t)
	if err := json.Unmarshal(body, &list); err != nil || list.GroupVersion != "v1" || list.Kind != "APIResourceList" || list.APIVersion != "" {
		t.Errorf("got %s, %v", body, err)
	}
	if v := must(c.ServerVersion())(t); v.GitVersion != "v1.36.3" {
		t.Errorf("got %v", v)
	}
}
