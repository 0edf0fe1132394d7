package plugins

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
)

func TestANodeGetsTokensForItsPodsAlone(t *testing.T) {
	projected := func(audience string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.UID, p.Spec.NodeName = "u", "n1"
			p.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience}}}}}}}
		}
	}
	p, _ := plugin(t, "NodeRestriction", pod("own", projected("vault")), pod("other", func(p *corev1.Pod) { p.UID, p.Spec.NodeName = "u", "n2" }))
	bound := func(kind, name string) *authenticationv1.BoundObjectReference {
		return &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: "u"}
	}
	for _, c := range []struct {
		name      string
		bound     *authenticationv1.BoundObjectReference
		audiences []string
		err       string
	}{
		{"bound to its pod, for an audience of the pod", bound("Pod", "own"), []string{"vault"}, ""},
		{"for another audience", bound("Pod", "own"), []string{"x"}, `audience "x" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience`},
		{"for two", bound("Pod", "own"), []string{"vault", "x"}, "node may only request 0 or 1 audiences"},
		{"bound to nothing", nil, nil, "node requested token not bound to a pod"},
		{"bound to a Secret", bound("Secret", "s"), nil, "node requested token not bound to a pod"},
		{"bound to another node's pod", bound("Pod", "other"), nil, "node requested token bound to a pod scheduled on a different node"},
		{"bound to a pod that isn't there", bound("Pod", "none"), nil, `pod "none" not found`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &admission.Request{
				Operation: admission.Create, Resource: schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}, Subresource: "token", Namespace: "ns", Name: "sa",
				User:   api.UserInfo{Name: "system:node:n1", Groups: []string{"system:nodes"}},
				Object: &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: c.audiences, BoundObjectRef: c.bound}},
			}
			check(t, judge(t, p, r), c.err)
		})
	}
}
