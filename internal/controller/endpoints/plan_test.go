package endpoints

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func pod(i int, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	ip := fmt.Sprintf("10.1.%d.%d", i/250, i%250)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint("u", i))},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status:     corev1.PodStatus{PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
}

func service(ports ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Selector: map[string]string{"app": "web"}}}
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", p), Port: p, TargetPort: intstr.FromInt32(p), Protocol: corev1.ProtocolTCP})
	}
	return s
}

func show(e *corev1.Endpoints) string {
	var out []string
	for _, s := range e.Subsets {
		var parts []string
		for _, a := range s.Addresses {
			parts = append(parts, a.TargetRef.Name)
		}
		for _, a := range s.NotReadyAddresses {
			parts = append(parts, "!"+a.TargetRef.Name)
		}
		for _, p := range s.Ports {
			parts = append(parts, fmt.Sprint(":", p.Port))
		}
		out = append(out, strings.Join(parts, " "))
	}
	return strings.Join(out, ", ")
}

func TestSubsetsAreProductsOfAddressesAndPorts(t *testing.T) {
	for name, test := range map[string]struct {
		service *corev1.Service
		pods    []*corev1.Pod
		want    string
	}{
		"pods with the same ports share a subset": {service(80, 443), []*corev1.Pod{pod(1, true), pod(2, false)}, "p1 !p2 :443 :80"},
		"a Service without pods has no subset":    {service(80), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := makePlan(test.service, test.pods, nil)
			if got := show(e); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if again := makePlan(test.service, test.pods, e); again != nil {
				t.Errorf("a second look changes it to %v", again)
			}
		})
	}
}

func TestLabelsTellWhoseItIs(t *testing.T) {
	svc := service(80)
	svc.Spec.ClusterIP = corev1.ClusterIPNone
	l := makePlan(svc, nil, nil).Labels
	if _, headless := l[corev1.IsHeadlessService]; !headless || l["team"] != "a" || l[ManagedByLabel] != "endpoint-controller" {
		t.Errorf("got %v", l)
	}
}

func TestMoreThanAThousandAddressesAreCutOff(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 1200 {
		pods = append(pods, pod(i, i < 900))
	}
	e := makePlan(service(80), pods, nil)
	if s := e.Subsets[0]; len(s.Addresses) != 900 || len(s.NotReadyAddresses) != 100 || e.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("%d and %d, %v", len(s.Addresses), len(s.NotReadyAddresses), e.Annotations)
	}
	e = makePlan(service(80), pods[:10], e)
	if len(e.Annotations) != 0 {
		t.Errorf("the annotation stays: %v", e.Annotations)
	}
}
