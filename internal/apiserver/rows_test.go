package apiserver_test

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
)

// testPods is a row with everything that the engine does for pods and nothing that pods need themselves.
var testPods = &api.Resource{
	Name: "pods", Singular: "pod", Kind: "Pod", Namespaced: true, ShortNames: []string{"po"}, Categories: []string{"all"},
	Versions: []api.Version{api.Serve[corev1.Pod, corev1.PodList]("v1")},
	Prefix:   "pods", ReturnsDeleted: true, AllowUnconditionalUpdate: true, HasGeneration: true,
	PrepareCreate: api.On(func(p *corev1.Pod) { p.Status = corev1.PodStatus{Phase: corev1.PodPending} }),
	PrepareUpdate: api.OnUpdate(func(n, o *corev1.Pod) { n.Status = o.Status }),
	Status:        &api.Status{PrepareUpdate: api.OnUpdate(func(n, o *corev1.Pod) { n.Spec = o.Spec })},
	DeleteGracefully: func(o api.Object, opts *metav1.DeleteOptions) bool {
		pod := o.(*corev1.Pod)
		if opts.GracePeriodSeconds == nil {
			grace := int64(30)
			opts.GracePeriodSeconds = &grace
		}
		if pod.Spec.NodeName == "" {
			opts.GracePeriodSeconds = new(int64)
		}
		return true
	},
	Fields:  map[string]func(api.Object) string{"spec.nodeName": api.Select(func(p *corev1.Pod) string { return p.Spec.NodeName })},
	Indexed: []string{"spec.nodeName"},
	Subresources: []api.Subresource{{
		Name: "binding", Verbs: []string{"create"}, GVK: corev1.SchemeGroupVersion.WithKind("Binding"),
		New: func() runtime.Object { return &corev1.Binding{} },
		Apply: func(parent api.Object, body runtime.Object) (api.Object, runtime.Object, error) {
			pod := parent.(*corev1.Pod)
			if pod.Spec.NodeName != "" {
				return nil, nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, pod.Name, errBound)
			}
			pod.Spec.NodeName = body.(*corev1.Binding).Target.Name
			return pod, nil, nil
		},
	}},
	Connect: []string{"log", "exec", "attach", "portforward", "proxy"},
}

var errBound = apierrors.NewBadRequest("already bound")

var testBindings = &api.Resource{
	Name: "bindings", Singular: "binding", Kind: "Binding", Namespaced: true, Verbs: []string{"create"},
	Versions:  []api.Version{api.Serve[corev1.Binding, corev1.PodList]("v1")},
	CreateVia: &api.SubresourceName{Resource: "pods", Subresource: "binding"},
}

// testDeployments has a status, a scale and a generation.
var testDeployments = &api.Resource{
	Group: "apps", Name: "deployments", Singular: "deployment", Kind: "Deployment", Namespaced: true,
	Versions: []api.Version{api.Serve[appsv1.Deployment, appsv1.DeploymentList]("v1")},
	Prefix:   "deployments", HasGeneration: true, AllowUnconditionalUpdate: true,
	Default: api.On(func(d *appsv1.Deployment) {
		if d.Spec.Replicas == nil {
			one := int32(1)
			d.Spec.Replicas = &one
		}
	}),
	PrepareCreate: api.On(func(d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} }),
	PrepareUpdate: api.OnUpdate(func(n, o *appsv1.Deployment) { n.Status = o.Status }),
	Status:        &api.Status{PrepareUpdate: api.OnUpdate(func(n, o *appsv1.Deployment) { n.Spec, n.Labels = o.Spec, o.Labels })},
	Scale: &api.Scale{
		Get: func(o api.Object) (int32, int32, string, error) {
			d := o.(*appsv1.Deployment)
			selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
			if err != nil {
				return 0, 0, "", err
			}
			return *d.Spec.Replicas, d.Status.Replicas, selector.String(), nil
		},
		Set:          func(o api.Object, n int32) { o.(*appsv1.Deployment).Spec.Replicas = &n },
		ReplicasPath: "spec.replicas",
	},
}

// testNamespaces stay while spec.finalizers hold them.
var testNamespaces = &api.Resource{
	Name: "namespaces", Singular: "namespace", Kind: "Namespace",
	Versions: []api.Version{api.Serve[corev1.Namespace, corev1.NamespaceList]("v1")},
	Verbs:    []string{"create", "delete", "get", "list", "patch", "update", "watch"},
	Prefix:   "namespaces", ReturnsDeleted: true, AllowUnconditionalUpdate: true,
	PrepareCreate: api.On(func(n *corev1.Namespace) {
		n.Status.Phase = corev1.NamespaceActive
		if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
			n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
		}
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *corev1.Namespace) { n.Spec.Finalizers, n.Status = o.Spec.Finalizers, o.Status }),
	ReadyToDelete: func(o api.Object) bool { return len(o.(*corev1.Namespace).Spec.Finalizers) == 0 },
	MarkDeleting:  func(o api.Object) { o.(*corev1.Namespace).Status.Phase = corev1.NamespaceTerminating },
	Subresources: []api.Subresource{{
		Name: "finalize", Verbs: []string{"update"},
		PrepareUpdate: api.OnUpdate(func(n, o *corev1.Namespace) { n.Status = o.Status }),
	}},
}

// testNodes have a proxy.
var testNodes = &api.Resource{
	Name: "nodes", Singular: "node", Kind: "Node",
	Versions: []api.Version{api.Serve[corev1.Node, corev1.NodeList]("v1")},
	Prefix:   "minions", AllowUnconditionalUpdate: true,
	Connect: []string{"proxy"},
}

func allRows() []*api.Resource {
	return []*api.Resource{testPods, testBindings, testDeployments, testNamespaces, testNodes}
}
