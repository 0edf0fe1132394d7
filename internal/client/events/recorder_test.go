package events

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func event(at time.Time, reason, message string) *corev1.Event {
	r := New(Config{Component: "kubelet", Host: "n1"})
	e := r.object(&corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p", UID: "u"},
		Event{Type: corev1.EventTypeNormal, Reason: reason, Message: message})
	e.FirstTimestamp, e.LastTimestamp = metav1.NewTime(at), metav1.NewTime(at)
	return e
}

func TestCorrelation(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)

	t.Run("an equal event raises the count of the first", func(t *testing.T) {
		c := newCorrelator()
		first := c.correlate(event(start, "Pulled", "m"))
		if first.patch != nil || first.drop {
			t.Fatalf("first = %+v, want a creation", first)
		}
		c.stored(first.key, first.event)
		second := c.correlate(event(start.Add(time.Second), "Pulled", "m"))
		if second.patch == nil || second.event.Name != first.event.Name || second.event.Count != 2 {
			t.Fatalf("second = %+v, want a patch of the first with count 2", second)
		}
		if !strings.Contains(string(second.patch), `"count":2`) {
			t.Errorf("patch = %s", second.patch)
		}
	})

	t.Run("ten different messages are combined", func(t *testing.T) {
		c := newCorrelator()
		var last outcome
		for i := range 12 {
			last = c.correlate(event(start, "BackOff", fmt.Sprint("m", i)))
			c.stored(last.key, last.event)
		}
		if !strings.HasPrefix(last.event.Message, combinedFromPrefix) || last.patch == nil {
			t.Fatalf("event 12 = %q patch %s, want a combined update", last.event.Message, last.patch)
		}
	})

	t.Run("a flood is cut off and recovers with time", func(t *testing.T) {
		c := newCorrelator()
		passed := 0
		for range 40 {
			if !c.correlate(event(start, "BackOff", "m")).drop {
				passed++
			}
		}
		if passed != bucketSize {
			t.Errorf("%d passed, want %d", passed, bucketSize)
		}
		if c.correlate(event(start.Add(bucketRefill), "BackOff", "m")).drop {
			t.Error("dropped after a refill")
		}
	})
}

func TestReference(t *testing.T) {
	ref, err := Reference(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"}})
	if err != nil {
		t.Fatal(err)
	}
	if ref.Kind != "Pod" || ref.APIVersion != "v1" || ref.Name != "p" || ref.Namespace != "ns" || ref.UID != "u" {
		t.Errorf("ref = %+v", ref)
	}
}

func TestRecordingNeverBlocks(t *testing.T) {
	r := New(Config{Component: "kubelet", QueueLength: 2})
	for range 5 {
		r.Event(&corev1.ObjectReference{Name: "p"}, corev1.EventTypeNormal, "R", "m")
	}
	if r.Dropped() != 3 {
		t.Errorf("dropped = %d, want 3", r.Dropped())
	}
}
