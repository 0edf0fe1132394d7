package proxytest

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func local(s *corev1.Service) {
	nodePort(30080)(s)
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func localPolicy(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", local))
	w.model.SetSlice(slice("web", "b", "@c"))
	w.sync()
	for range 8 {
		answers(t, w.outside, "tcp", nodeIP+":30080", "b "+outsideIP)
	}
	// Pods and the node itself aren't outside: all endpoints serve them.
	if seen := who(t, w.pods["a"], "tcp", nodeIP+":30080", 40); len(seen) != 2 {
		t.Errorf("answered to a pod: %v", seen)
	}
	if seen := who(t, w.node, "tcp", nodeIP+":30080", 40); len(seen) != 2 {
		t.Errorf("answered to the node: %v", seen)
	}
}

func localPolicyWithoutEndpoint(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", local))
	w.model.SetSlice(slice("web", "@c"))
	w.sync()
	ignores(t, w.outside, "tcp", nodeIP+":30080")
	answers(t, w.pods["a"], "tcp", nodeIP+":30080", "c "+podIP("a"))
	answers(t, w.pods["a"], "tcp", "10.96.0.1:80", "c "+podIP("a"))
}

func internalLocal(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", func(s *corev1.Service) {
		nodePort(30080)(s)
		s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
	}))
	w.model.SetSlice(slice("web", "b", "@c"))
	w.sync()
	if seen := who(t, w.pods["a"], "tcp", "10.96.0.1:80", 20); len(seen) != 1 || seen["b"] == 0 {
		t.Errorf("answered: %v", seen)
	}
	if seen := who(t, w.outside, "tcp", nodeIP+":30080", 40); len(seen) != 2 {
		t.Errorf("answered to outside: %v", seen)
	}
	w.model.SetSlice(slice("web", "@c"))
	w.sync()
	ignores(t, w.pods["a"], "tcp", "10.96.0.1:80")
}

func balanced(s *corev1.Service) {
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.ExternalIPs = []string{"198.51.100.1"}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.2"}}
}

func externalAddresses(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", balanced))
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	for _, addr := range []string{"198.51.100.1:80", "198.51.100.2:80"} {
		answers(t, w.outside, "tcp", addr, "b 10.244.98.1")
		answers(t, w.pods["a"], "tcp", addr, "b 10.244.98.1")
		answers(t, w.node, "tcp", addr, "b 10.244.98.1")
	}
	w.model.DeleteSlice("default", "web", "web-1")
	w.sync()
	refuses(t, w.outside, "tcp", "198.51.100.2:80")
}

func sourceRanges(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", func(s *corev1.Service) {
		balanced(s)
		s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/30"}
	}))
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	answers(t, w.outside, "tcp", "198.51.100.2:80", "b 10.244.98.1")
	ignores(t, w.pods["a"], "tcp", "198.51.100.2:80")
	answers(t, w.pods["a"], "tcp", "198.51.100.1:80", "b 10.244.98.1")
}

func affinity(t *testing.T, w *world) {
	sticky := func(s *corev1.Service) {
		nodePort(30080)(s)
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(3600))}}
	}
	w.model.SetService(service("web", "10.96.0.1", sticky))
	w.model.SetSlice(slice("web", "a", "b", "c"))
	w.sync()
	seen := who(t, w.outside, "tcp", nodeIP+":30080", 20)
	if len(seen) != 1 {
		t.Fatalf("one client met %v", seen)
	}
	var bound string
	for bound = range seen {
	}
	rest := slices.DeleteFunc([]string{"a", "b", "c"}, func(s string) bool { return s == bound })
	w.model.SetSlice(slice("web", rest...))
	w.sync()
	after := who(t, w.outside, "tcp", nodeIP+":30080", 20)
	if len(after) != 1 || after[bound] != 0 {
		t.Errorf("after %s went, the client met %v", bound, after)
	}
	w.model.SetSlice(slice("web", "a", "b", "c"))
	w.sync()
	if again := who(t, w.outside, "tcp", nodeIP+":30080", 20); len(again) != 1 || again[bound] != 0 {
		t.Errorf("another endpoint made the client meet %v, formerly %v", again, after)
	}
	w.model.SetService(service("web", "10.96.0.1", nodePort(30080)))
	w.sync()
	if free := who(t, w.outside, "tcp", nodeIP+":30080", 60); len(free) != 3 {
		t.Errorf("without affinity the client met %v", free)
	}
}
