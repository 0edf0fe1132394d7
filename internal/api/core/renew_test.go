package core

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

func TestServicesOfOldReleasesAreShownWithFamilies(t *testing.T) {
	single, dual := corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyRequireDualStack
	selector, cluster := map[string]string{"app": "web"}, corev1.ServiceInternalTrafficPolicyCluster
	for name, c := range map[string]struct{ stored, shown corev1.ServiceSpec }{
		"one address": {
			corev1.ServiceSpec{ClusterIP: "10.0.0.1"},
			corev1.ServiceSpec{ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, IPFamilies: []corev1.IPFamily{"IPv4"}, IPFamilyPolicy: &single},
		},
		"an address of IPv6": {
			corev1.ServiceSpec{ClusterIP: "fd00::1"},
			corev1.ServiceSpec{ClusterIP: "fd00::1", ClusterIPs: []string{"fd00::1"}, IPFamilies: []corev1.IPFamily{"IPv6"}, IPFamilyPolicy: &single},
		},
		"two addresses": {
			corev1.ServiceSpec{ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"}},
			corev1.ServiceSpec{ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"}, IPFamilies: []corev1.IPFamily{"IPv4", "IPv6"}, IPFamilyPolicy: &dual},
		},
		"headless": {
			corev1.ServiceSpec{ClusterIP: "None", Selector: selector},
			corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, Selector: selector, IPFamilies: []corev1.IPFamily{"IPv4"}, IPFamilyPolicy: &single},
		},
		"headless with endpoints of its own": {
			corev1.ServiceSpec{ClusterIP: "None"},
			corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, IPFamilies: []corev1.IPFamily{"IPv4", "IPv6"}, IPFamilyPolicy: &dual},
		},
		"families that are known stay": {
			corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, IPFamilies: []corev1.IPFamily{"IPv6"}},
			corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, IPFamilies: []corev1.IPFamily{"IPv6"}},
		},
		"a name outside": {
			corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, InternalTrafficPolicy: &cluster},
			corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &corev1.Service{Spec: c.stored}
			Services.Renew(s)
			if !equality.Semantic.DeepEqual(s.Spec, c.shown) {
				t.Errorf("%+v, not %+v", s.Spec, c.shown)
			}
		})
	}
}

func TestClaimsOfOldReleasesAreShownWithBothSources(t *testing.T) {
	c := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{DataSource: &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "a"}}}
	PersistentVolumeClaims.Renew(c)
	if r := c.Spec.DataSourceRef; r == nil || r.Kind != "PersistentVolumeClaim" || r.Name != "a" {
		t.Errorf("dataSourceRef is %v", r)
	}
}

// A map that is there but empty is not one that is absent: upstream compares them so.
func TestDataOfAnImmutableConfigMapMayNotBecomeEmpty(t *testing.T) {
	old := &corev1.ConfigMap{Immutable: new(true)}
	old.Name = "c"
	changed := old.DeepCopy()
	changed.Data = map[string]string{}
	if errs := validateConfigMapUpdate(changed, old); len(errs) != 1 || errs[0].Field != "data" {
		t.Errorf("refused with %v", errs)
	}
	if errs := validateConfigMapUpdate(old.DeepCopy(), old); len(errs) > 0 {
		t.Errorf("an update of nothing is refused with %v", errs)
	}
}
