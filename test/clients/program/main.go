// Command program does what programs with client-go do: it lists and watches by informers, with and without watch lists, applies,
// patches, reads protobuf and JSON, and follows its own resource versions. It ends with an error where something is not as it should be.
//
//	program -kubeconfig FILE
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	manager  = "program"
	patience = time.Minute
)

func main() {
	log.SetFlags(0)
	kubeconfig := flag.String("kubeconfig", "", "the cluster's kubeconfig")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		for _, watchList := range []string{"false", "true"} {
			// client-go reads its features from the environment when they are asked for the first time: each run is a process of its own.
			if os.Getenv("PROGRAM_RUN") == contentType+" "+watchList {
				if err := run(ctx, config, contentType); err != nil {
					log.Fatalf("%s, watch list %s: %v", contentType, watchList, err)
				}
				return
			}
			if os.Getenv("PROGRAM_RUN") == "" {
				if err := again(ctx, contentType, watchList); err != nil {
					log.Fatal(err)
				}
			}
		}
	}
}

// again runs the program with the features.
func again(ctx context.Context, contentType, watchList string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, err := os.StartProcess(self, os.Args, &os.ProcAttr{
		Env:   append(os.Environ(), "PROGRAM_RUN="+contentType+" "+watchList, "KUBE_FEATURE_WatchListClient="+watchList),
		Files: []*os.File{nil, os.Stdout, os.Stderr},
	})
	if err != nil {
		return err
	}
	state, err := p.Wait()
	if err == nil && !state.Success() {
		err = fmt.Errorf("%s, watch list %s: %s", contentType, watchList, state)
	}
	return errors.Join(err, ctx.Err())
}

func run(ctx context.Context, config *rest.Config, contentType string) error {
	config = rest.CopyConfig(config)
	plain := rest.CopyConfig(config)
	config.ContentType = contentType
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	d, err := dynamic.NewForConfig(plain)
	if err != nil {
		return err
	}
	ns, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "program-"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	steps := []func(context.Context, kubernetes.Interface, dynamic.Interface, string) error{follow, apply, page, conflict, custom}
	for i, step := range steps {
		if err = step(ctx, c, d, ns.Name); err != nil {
			err = fmt.Errorf("step %d: %w", i+1, err)
			break
		}
	}
	return errors.Join(err, c.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}))
}

// follow sees by an informer what is made, changed and deleted.
func follow(ctx context.Context, c kubernetes.Interface, _ dynamic.Interface, ns string) error {
	maps := c.CoreV1().ConfigMaps(ns)
	for i := range 10 {
		if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("m", i)}}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace(ns))
	informer := factory.Core().V1().ConfigMaps()
	var added, updated, deleted atomic.Int32
	if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { added.Add(1) }, UpdateFunc: func(any, any) { updated.Add(1) }, DeleteFunc: func(any) { deleted.Add(1) },
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer factory.Shutdown()
	defer cancel()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return errors.New("the informer does not come to know the ConfigMaps")
	}
	patch := []byte(`{"data":{"a":"b"}}`)
	if _, err := maps.Patch(ctx, "m0", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	if err := maps.Delete(ctx, "m1", metav1.DeleteOptions{}); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		m, err := informer.Lister().ConfigMaps(ns).Get("m0")
		if err != nil {
			return false, err
		}
		return added.Load() >= 10 && updated.Load() == 1 && deleted.Load() == 1 && m.Data["a"] == "b", nil
	})
}

// apply applies with two managers.
func apply(ctx context.Context, c kubernetes.Interface, _ dynamic.Interface, ns string) error {
	labels := map[string]string{"app": "web"}
	web := appsapply.Deployment("web", ns).WithSpec(appsapply.DeploymentSpec().WithReplicas(0).
		WithSelector(metaapply.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(coreapply.PodTemplateSpec().WithLabels(labels).WithSpec(coreapply.PodSpec().WithContainers(coreapply.Container().WithName("c").WithImage("i")))))
	deployments := c.AppsV1().Deployments(ns)
	if _, err := deployments.Apply(ctx, web, metav1.ApplyOptions{FieldManager: manager}); err != nil {
		return err
	}
	other := appsapply.Deployment("web", ns).WithSpec(appsapply.DeploymentSpec().WithReplicas(1))
	if _, err := deployments.Apply(ctx, other, metav1.ApplyOptions{FieldManager: "other"}); !apierrors.IsConflict(err) {
		return fmt.Errorf("two managers apply different values: %w", err)
	}
	if _, err := deployments.Apply(ctx, other, metav1.ApplyOptions{FieldManager: "other", Force: true}); err != nil {
		return err
	}
	live, err := deployments.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	mine, err := appsapply.ExtractDeployment(live, manager)
	if err != nil {
		return err
	}
	if mine.Spec.Replicas != nil || *live.Spec.Replicas != 1 {
		return fmt.Errorf("replicas are %d and %v", *live.Spec.Replicas, mine.Spec.Replicas)
	}
	scale, err := deployments.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	scale.Spec.Replicas = 0
	if _, err := deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{}); err != nil {
		return err
	}
	return deployments.Delete(ctx, "web", metav1.DeleteOptions{})
}

// page lists in pages.
func page(ctx context.Context, c kubernetes.Interface, _ dynamic.Interface, ns string) error {
	seen := map[string]bool{}
	for o := (metav1.ListOptions{Limit: 2}); ; {
		list, err := c.CoreV1().ConfigMaps(ns).List(ctx, o)
		if err != nil {
			return err
		}
		for _, m := range list.Items {
			seen[m.Name] = true
		}
		if o.Continue = list.Continue; o.Continue == "" {
			break
		}
	}
	for i := range 10 {
		if name := fmt.Sprint("m", i); seen[name] == (i == 1) {
			return fmt.Errorf("%s is in pages: %v", name, seen[name])
		}
	}
	return nil
}

// conflict updates what another client has changed.
func conflict(ctx context.Context, c kubernetes.Interface, _ dynamic.Interface, ns string) error {
	set, err := c.AppsV1().ReplicaSets(ns).Create(ctx, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "set"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if _, err := c.AppsV1().ReplicaSets(ns).Patch(ctx, "set", types.MergePatchType, []byte(`{"metadata":{"annotations":{"x":"y"}}}`), metav1.PatchOptions{}); err != nil {
		return err
	}
	if _, err := c.AppsV1().ReplicaSets(ns).Update(ctx, set, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("an old object is written: %w", err)
	}
	return nil
}

// custom works without types.
func custom(ctx context.Context, _ kubernetes.Interface, d dynamic.Interface, ns string) error {
	maps := d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(ns)
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "loose"}, "data": map[string]any{"a": "b"}}}
	if _, err := maps.Apply(ctx, "loose", o, metav1.ApplyOptions{FieldManager: manager}); err != nil {
		return err
	}
	made, err := maps.Get(ctx, "loose", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if v, _, _ := unstructured.NestedString(made.Object, "data", "a"); v != "b" {
		return fmt.Errorf("data is %v", made.Object["data"])
	}
	return nil
}
