package apiserver

import (
	"maps"
	"testing"
	"time"
)

func TestTheAuditTellsWhereASlowRequestSpentItsTime(t *testing.T) {
	var s spent
	s.add(inStorage, 300*time.Millisecond)
	s.add(inMutatingWebhooks, 200*time.Millisecond)
	s.add(inMutatingWebhooks, 100*time.Millisecond)
	if got := s.annotations(500 * time.Millisecond); got != nil {
		t.Errorf("of a fast one: %v", got)
	}
	want := map[string]string{
		"apiserver.latency.k8s.io/total": "600ms", "apiserver.latency.k8s.io/etcd": "300ms", "apiserver.latency.k8s.io/mutating-webhook": "300ms",
	}
	if got := s.annotations(600 * time.Millisecond); !maps.Equal(got, want) {
		t.Errorf("of a slow one: %v", got)
	}
	if got := s.elsewhere(); got != 300*time.Millisecond {
		t.Errorf("elsewhere: %v", got)
	}
}

func TestADeprecationTellsTheReleaseThatIsTheLast(t *testing.T) {
	for text, want := range map[string]string{
		"v1 ComponentStatus is deprecated in v1.19+": "",
		"flowcontrol.apiserver.k8s.io/v1beta3 FlowSchema is deprecated in v1.29+, unavailable in v1.32+; use flowcontrol.apiserver.k8s.io/v1 FlowSchema": "1.32",
	} {
		if got := removedRelease(text); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}
