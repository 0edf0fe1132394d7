package plugins

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
)

// served are the kinds that plugins look at.
var served = func() []client.KindInfo {
	var out []client.KindInfo
	for group, names := range map[string]string{
		"":                          "namespaces serviceaccounts pods nodes persistentvolumeclaims persistentvolumes limitranges resourcequotas services secrets configmaps",
		"scheduling.k8s.io":         "priorityclasses",
		"storage.k8s.io":            "storageclasses csidrivers",
		"node.k8s.io":               "runtimeclasses",
		"networking.k8s.io":         "ingressclasses",
		"rbac.authorization.k8s.io": "roles",
	} {
		for _, n := range strings.Fields(names) {
			out = append(out, client.KindInfo{GroupVersionResource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: n}})
		}
	}
	return out
}()

func nobody(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionNoOpinion, "", nil
}

// plugin returns one plugin over a fake client that holds the objects.
func plugin(t *testing.T, name string, objects ...client.Object) (admission.Plugin, *clienttest.Client) {
	t.Helper()
	c := clienttest.New(objects...)
	c.Serve(served)
	chain, err := Default(t.Context(), c, Options{Authorizer: authorizer.AuthorizerFunc(nobody), Enable: []string{name}, Configurations: map[string][]byte{"EventRateLimit": []byte(eventLimits)}})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(chain, func(p admission.Plugin) bool { return p.Name() == name })
	if i < 0 {
		t.Fatalf("no plugin is called %s", name)
	}
	return chain[i], c
}

// viewsOf returns the views of a fake client that holds the objects.
func viewsOf(t *testing.T, objects ...client.Object) (*views, client.Client) {
	t.Helper()
	c := clienttest.New(objects...)
	c.Serve(served)
	v, err := openViews(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v, c
}

// judge lets a plugin mutate and validate a request.
func judge(t *testing.T, p admission.Plugin, r *admission.Request) error {
	t.Helper()
	if m, ok := p.(admission.Mutator); ok {
		if err := m.Admit(t.Context(), r); err != nil {
			return err
		}
	}
	if v, ok := p.(admission.Validator); ok {
		return v.Validate(t.Context(), r)
	}
	return nil
}

// request asks for an operation on an object; old is nil on create.
func request(op admission.Operation, sub string, obj, old client.Object) *admission.Request {
	r := &admission.Request{Operation: op, Subresource: sub, User: api.UserInfo{Name: "alice"}}
	shown := obj
	if shown == nil {
		shown = old
	}
	r.Resource, r.Namespace, r.Name = clienttest.ResourceOf(shown), shown.GetNamespace(), shown.GetName()
	if obj != nil {
		r.Object = obj
	}
	if old != nil {
		r.OldObject = old
	}
	return r
}

func check(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %q", err, want)
	}
}

func namespace(name string, phase corev1.NamespacePhase) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NamespaceStatus{Phase: phase}}
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func TestNamespaceLifecycle(t *testing.T) {
	p, _ := plugin(t, "NamespaceLifecycle", namespace("ns", corev1.NamespaceActive), namespace("dying", corev1.NamespaceTerminating))
	in := func(ns string) *corev1.Pod { q := pod("p"); q.Namespace = ns; return q }
	for _, c := range []struct {
		name string
		r    *admission.Request
		err  string
	}{
		{"an active namespace takes objects", request(admission.Create, "", in("ns"), nil), ""},
		{"a missing one takes none", request(admission.Create, "", in("none"), nil), `namespaces "none" not found`},
		{"a dying one takes no new ones", request(admission.Create, "", in("dying"), nil), `pods "p" is forbidden: unable to create new content in namespace dying because it is being terminated`},
		{"but lets others change", request(admission.Update, "", in("dying"), in("dying")), ""},
		{"and go", request(admission.Delete, "", nil, in("dying")), ""},
		{"default stays", request(admission.Delete, "", nil, namespace("default", "")), `namespaces "default" is forbidden: this namespace may not be deleted`},
		{"kube-node-lease may go", request(admission.Delete, "", nil, namespace("kube-node-lease", "")), ""},
		{"cluster-scoped objects have none", request(admission.Create, "", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, nil), ""},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, judge(t, p, c.r), c.err) })
	}
}

func TestANamespaceTakesNothingOnceItsDeletionWasAskedFor(t *testing.T) {
	late, _ := plugin(t, "NamespaceLifecycle", namespace("ns", corev1.NamespaceActive))
	p := late.(*NamespaceLifecycle) // whose view doesn't show yet what the API knows
	p.client = clienttest.New(namespace("ns", corev1.NamespaceTerminating))
	in := pod("p")
	in.Namespace = "ns"
	check(t, judge(t, p, request(admission.Create, "", in, nil)), "")
	check(t, judge(t, p, request(admission.Delete, "", nil, namespace("ns", ""))), "")
	check(t, judge(t, p, request(admission.Create, "", in, nil)), `pods "p" is forbidden: unable to create new content in namespace ns because it is being terminated`)
}

func TestServiceAccountMountsAToken(t *testing.T) {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}}
	p, _ := plugin(t, "ServiceAccount", sa)
	got := pod("p", func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "own", VolumeMounts: []corev1.VolumeMount{{Name: "x", MountPath: tokenMountPath}}}}
	})
	if err := judge(t, p, request(admission.Create, "", got, nil)); err != nil {
		t.Fatal(err)
	}
	if got.Spec.ServiceAccountName != "default" || len(got.Spec.ImagePullSecrets) != 1 {
		t.Errorf("got account %q, pull secrets %v", got.Spec.ServiceAccountName, got.Spec.ImagePullSecrets)
	}
	if len(got.Spec.Volumes) != 1 || !strings.HasPrefix(got.Spec.Volumes[0].Name, "kube-api-access-") || len(got.Spec.Volumes[0].Name) != len("kube-api-access-")+5 {
		t.Fatalf("got volumes %+v", got.Spec.Volumes)
	}
	if m := got.Spec.Containers[0].VolumeMounts; len(m) != 1 || !m[0].ReadOnly || m[0].MountPath != tokenMountPath || m[0].Name != got.Spec.Volumes[0].Name {
		t.Errorf("got mounts %+v", m)
	}
	if len(got.Spec.InitContainers[0].VolumeMounts) != 1 {
		t.Error("a container's own mount was not respected")
	}
	if s := got.Spec.Volumes[0].Projected.Sources; *s[0].ServiceAccountToken.ExpirationSeconds != 3607 || s[1].ConfigMap.Name != "kube-root-ca.crt" || s[2].DownwardAPI.Items[0].FieldRef.FieldPath != "metadata.namespace" {
		t.Errorf("got sources %+v", s)
	}
	again := got.DeepCopy()
	if err := judge(t, p, request(admission.Create, "", again, nil)); err != nil || len(again.Spec.Volumes) != 1 {
		t.Errorf("a second pass added volumes: %v %v", again.Spec.Volumes, err)
	}
}

func TestServiceAccountRefuses(t *testing.T) {
	strict := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "strict", Annotations: map[string]string{enforceMountableSecrets: "true"}}}
	p, _ := plugin(t, "ServiceAccount", strict)
	mirror := func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }
	for _, c := range []struct {
		name string
		pod  *corev1.Pod
		err  string
	}{
		{"an account that isn't there", pod("p", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "gone" }), `pods "p" is forbidden: error looking up service account ns/gone: serviceaccount "gone" not found`},
		{"a Secret that a strict account doesn't list", pod("p", func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "strict"
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
		}), `volume with secret.secretName="s" is not allowed because service account strict does not reference that secret`},
		{"a mirror pod with an account", pod("p", mirror, func(p *corev1.Pod) { p.Spec.ServiceAccountName = "strict" }), "a mirror pod may not reference service accounts"},
		{"a mirror pod is left alone", pod("p", mirror), ""},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, judge(t, p, request(admission.Create, "", c.pod, nil)), c.err) })
	}
}

func TestServiceAccountWaitsForTheDefaultOfANewNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := plugin(t, "ServiceAccount")
		go func() {
			time.Sleep(time.Second)
			_, _ = client.ServiceAccounts.Create(context.Background(), c, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default"}})
		}()
		check(t, judge(t, p, request(admission.Create, "", pod("p"), nil)), "")
	})
	synctest.Test(t, func(t *testing.T) {
		p, _ := plugin(t, "ServiceAccount")
		check(t, judge(t, p, request(admission.Create, "", pod("p"), nil)), `error looking up service account ns/default: serviceaccount "default" not found`)
	})
}

func TestPriority(t *testing.T) {
	class := func(name string, value int32, def bool) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, GlobalDefault: def, PreemptionPolicy: ptr.To(corev1.PreemptNever)}
	}
	p, _ := plugin(t, "Priority", class("high", 1000, false))
	withDefault, _ := plugin(t, "Priority", class("usual", 7, true))
	for _, c := range []struct {
		name   string
		plugin admission.Plugin
		pod    *corev1.Pod
		value  int32
		class  string
		err    string
	}{
		{"no class at all is 0", p, pod("p"), 0, "", ""},
		{"the default class", withDefault, pod("p"), 7, "usual", ""},
		{"a named class", p, pod("p", func(p *corev1.Pod) { p.Spec.PriorityClassName = "high" }), 1000, "high", ""},
		{"a class that isn't there", p, pod("p", func(p *corev1.Pod) { p.Spec.PriorityClassName = "x" }), 0, "", `pods "p" is forbidden: no PriorityClass with name x was found`},
		{"another value than the class's", p, pod("p", func(p *corev1.Pod) { p.Spec.Priority = ptr.To[int32](5) }), 0, "", "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := judge(t, c.plugin, request(admission.Create, "", c.pod, nil))
			check(t, err, c.err)
			if err == nil && (*c.pod.Spec.Priority != c.value || c.pod.Spec.PriorityClassName != c.class) {
				t.Errorf("got %v of %q", *c.pod.Spec.Priority, c.pod.Spec.PriorityClassName)
			}
		})
	}
	check(t, judge(t, withDefault, request(admission.Create, "", class("second", 1, true), nil)), "PriorityClass usual is already marked as default. Only one default can exist")
	check(t, judge(t, withDefault, request(admission.Update, "", class("usual", 7, true), class("usual", 7, false))), "")
}

func TestDefaultTolerationSeconds(t *testing.T) {
	p, _ := plugin(t, "DefaultTolerationSeconds")
	got := pod("p", func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists}}
	})
	check(t, judge(t, p, request(admission.Create, "", got, nil)), "")
	if len(got.Spec.Tolerations) != 2 || got.Spec.Tolerations[1].Key != corev1.TaintNodeUnreachable || *got.Spec.Tolerations[1].TolerationSeconds != 300 {
		t.Errorf("got %+v", got.Spec.Tolerations)
	}
	all := pod("p", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} })
	check(t, judge(t, p, request(admission.Create, "", all, nil)), "")
	if len(all.Spec.Tolerations) != 1 {
		t.Errorf("got %+v", all.Spec.Tolerations)
	}
}

func TestTaintNodesByCondition(t *testing.T) {
	p, _ := plugin(t, "TaintNodesByCondition")
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	for range 2 {
		check(t, judge(t, p, request(admission.Create, "", n, nil)), "")
	}
	if len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
		t.Errorf("got %+v", n.Spec.Taints)
	}
}

func TestNodeRestriction(t *testing.T) {
	own := pod("own", func(p *corev1.Pod) {
		p.UID, p.Spec.NodeName = "u", "n1"
		p.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault"}}}}}}}
	})
	other := pod("other", func(p *corev1.Pod) { p.UID, p.Spec.NodeName = "v", "n2" })
	n1 := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "nu"}}
	p, _ := plugin(t, "NodeRestriction", own, other, n1)
	mirror := func(change ...func(*corev1.Pod)) *corev1.Pod {
		return pod("m", append([]func(*corev1.Pod){func(p *corev1.Pod) {
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			p.Spec.NodeName = "n1"
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "nu", Controller: ptr.To(true)}}
		}}, change...)...)
	}
	node := func(change func(*corev1.Node)) *corev1.Node {
		n := n1.DeepCopy()
		change(n)
		return n
	}
	for _, c := range []struct {
		name string
		r    *admission.Request
		err  string
	}{
		{"a mirror pod of its own", request(admission.Create, "", mirror(), nil), ""},
		{"no ordinary pod", request(admission.Create, "", own, nil), `pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods`},
		{"no mirror pod elsewhere", request(admission.Create, "", mirror(func(p *corev1.Pod) { p.Spec.NodeName = "n2" }), nil), "spec.nodeName set to itself"},
		{"no mirror pod of another owner", request(admission.Create, "", mirror(func(p *corev1.Pod) { p.OwnerReferences = nil }), nil), "with an owner reference set to itself"},
		{"no mirror pod that reads Secrets", request(admission.Create, "", mirror(func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}} }), nil), `node "n1" can not create pods that reference secrets`},
		{"status of its pod", request(admission.Update, "status", own, own), ""},
		{"not of another's", request(admission.Update, "status", other, other), "can only update pod status for pods with spec.nodeName set to itself"},
		{"no labels through it", request(admission.Update, "status", pod("own", func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }), own), "cannot update labels through pod status"},
		{"no pod's spec", request(admission.Update, "", own, own), "can only create and delete mirror pods"},
		{"delete its pod", request(admission.Delete, "", nil, own), ""},
		{"not another's", request(admission.Delete, "", nil, other), "can only delete pods with spec.nodeName set to itself"},
		{"no other subresource", request(admission.Create, "binding", own, nil), "unexpected pod subresource \"binding\""},
		{"register itself", request(admission.Create, "", node(func(n *corev1.Node) { n.Labels = map[string]string{"kubernetes.io/hostname": "n1", "x": "y"} }), nil), ""},
		{"no reserved labels", request(admission.Create, "", node(func(n *corev1.Node) {
			n.Labels = map[string]string{"node-restriction.kubernetes.io/x": "y", "foo.k8s.io/z": ""}
		}), nil), `is not allowed to set the following labels: foo.k8s.io/z, node-restriction.kubernetes.io/x`},
		{"no taints", request(admission.Update, "", node(func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "a"}} }), n1), "is not allowed to modify taints"},
		{"no other node", request(admission.Update, "", node(func(n *corev1.Node) { n.Name = "n2" }), n1), `node "n1" is not allowed to modify node "n2"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.User = api.UserInfo{Name: "system:node:n1", Groups: []string{"system:nodes"}}
			check(t, judge(t, p, c.r), c.err)
		})
	}
	t.Run("others are not restricted", func(t *testing.T) {
		check(t, judge(t, p, request(admission.Update, "", other, other)), "")
	})
	t.Run("roles are not its business", func(t *testing.T) {
		r := request(admission.Create, "", &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "ns"}}, nil)
		r.User = api.UserInfo{Name: "system:node:n1", Groups: []string{"system:nodes"}}
		check(t, judge(t, p, r), "")
	})
}
