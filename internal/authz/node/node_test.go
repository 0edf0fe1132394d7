package node

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
)

func cluster() *clienttest.Client {
	pod := func(name, node string, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		p.Spec.NodeName, p.Spec.ServiceAccountName = node, "sa-"+name
		change(p)
		return p
	}
	secretVolume := func(name string) corev1.Volume {
		return corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}
	}
	c := clienttest.New(
		pod("a", "n1", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{secretVolume("vol"), {Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}}}
			p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
			p.Spec.InitContainers = []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "env"}}}}}}
		}),
		pod("b", "n2", func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{secretVolume("other")} }),
		pod("mirror", "n1", func(p *corev1.Pod) {
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			p.Spec.Volumes = []corev1.Volume{secretVolume("wanted")}
		}),
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "claim"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}},
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
			ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: "claim"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				NodeStageSecretRef:         &corev1.SecretReference{Namespace: "csi", Name: "stage"},
				ControllerPublishSecretRef: &corev1.SecretReference{Namespace: "csi", Name: "controller"},
			}},
		}},
	)
	var kinds []client.KindInfo
	for _, r := range []string{"pods", "persistentvolumes", "persistentvolumeclaims"} {
		kinds = append(kinds, client.KindInfo{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: r}})
	}
	c.Serve(kinds)
	return c
}

func TestANodeMayWhatItsPodsNeed(t *testing.T) {
	az, err := New(t.Context(), cluster())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		request string // "verb group/resource/sub namespace name selector"
		reason  string // "" is allowed
	}{
		{"a pod's secret volume", "get /secrets ns vol", ""},
		{"watch it", "watch /secrets ns vol", ""},
		{"not write it", "update /secrets ns vol", "can only read resources of this type"},
		{"not list all", "list /secrets ns ", "No Object name found"},
		{"not all namespaces", "list /secrets  ", "can only read namespaced object of this type"},
		{"a pull secret", "get /secrets ns pull", ""},
		{"not another node's", "get /secrets ns other", "no relationship found between node 'n1' and this object"},
		{"not that of a pod it wrote itself", "get /secrets ns wanted", "no relationship found between node 'n1' and this object"},
		{"not of that name elsewhere", "get /secrets other vol", "no relationship found between node 'n1' and this object"},
		{"an init container's config map", "get /configmaps ns env", ""},
		{"a claim", "get /persistentvolumeclaims ns claim", ""},
		{"its status", "patch /persistentvolumeclaims/status ns claim", ""},
		{"its volume", "get /persistentvolumes  pv", ""},
		{"the volume's secret", "get /secrets csi stage", ""},
		{"not the one for the controller", "get /secrets csi controller", "no relationship found between node 'n1' and this object"},
		{"a token for its pod's account", "create /serviceaccounts/token ns sa-a", ""},
		{"no token for another", "create /serviceaccounts/token ns sa-b", "no relationship found between node 'n1' and this object"},
		{"its own node", "get /nodes  n1", ""},
		{"no other", "get /nodes  n2", "node 'n1' cannot read 'n2', only its own Node object"},
		{"not all", "list /nodes  ", "node 'n1' cannot read all nodes, only its own Node object"},
		{"its pods", "watch /pods   spec.nodeName=n1", ""},
		{"not all pods", "watch /pods   ", "can only list/watch pods with spec.nodeName field selector"},
		{"one of its pods", "get /pods ns a", ""},
		{"not one of another", "get /pods ns b", "no relationship found between node 'n1' and this object"},
		{"its lease", "update coordination.k8s.io/leases kube-node-lease n1", ""},
		{"not another's", "update coordination.k8s.io/leases kube-node-lease n2", "can only access node lease with the same name as the requesting node"},
		{"services", "watch /services  ", ""},
		{"write events", "create /events ns ", ""},
		{"ask for a certificate", "create certificates.k8s.io/certificatesigningrequests  ", ""},
		{"not endpoint slices", "watch discovery.k8s.io/endpointslices  ", "-"},
		{"not deployments", "get apps/deployments ns x", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, reason, err := az.Authorize(t.Context(), attributes(t, "system:node:n1", c.request))
			if err != nil || (d == authorizer.DecisionAllow) != (c.reason == "") || strings.TrimPrefix(c.reason, "-") != reason {
				t.Errorf("got %v %q %v", d, reason, err)
			}
		})
	}
}

func attributes(t *testing.T, name, request string) authorizer.Attributes {
	t.Helper()
	f := strings.Split(request+"     ", " ")
	group, resource, _ := strings.Cut(f[1], "/")
	resource, sub, _ := strings.Cut(resource, "/")
	sel, err := fields.ParseSelector(f[4])
	if err != nil {
		t.Fatal(err)
	}
	return authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: name, Groups: []string{"system:nodes"}}, Verb: f[0], APIGroup: group, Resource: resource, Subresource: sub,
		Namespace: f[2], Name: f[3], ResourceRequest: true, FieldSelectorRequirements: sel.Requirements(),
	}
}

func TestOnlyNodesAreJudged(t *testing.T) {
	az, err := New(t.Context(), cluster())
	if err != nil {
		t.Fatal(err)
	}
	d, reason, _ := az.Authorize(t.Context(), attributes(t, "system:node:", "get /secrets ns vol"))
	if d != authorizer.DecisionNoOpinion || reason != `unknown node for user "system:node:"` {
		t.Errorf("got %v %q", d, reason)
	}
	a := attributes(t, "system:node:n1", "get /secrets ns vol").(authorizer.AttributesRecord)
	a.User = &user.DefaultInfo{Name: "system:node:n1"}
	if d, reason, _ = az.Authorize(t.Context(), a); d != authorizer.DecisionNoOpinion || reason != "" {
		t.Errorf("got %v %q", d, reason)
	}
}
