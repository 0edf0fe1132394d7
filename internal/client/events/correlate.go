package events

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/lru"
)

// Upstream's figures.
const (
	cacheEntries       = 4096
	similarLimit       = 10
	similarInterval    = 10 * time.Minute
	bucketSize         = 25
	bucketRefill       = 5 * time.Minute // one token
	combinedFromPrefix = "(combined from similar events): "
)

// correlator decides what becomes of an event. It belongs to the writer and isn't safe for concurrent use.
type correlator struct {
	buckets *lru.Cache // source and object → *bucket
	similar *lru.Cache // event without message → *similarity
	seen    *lru.Cache // whole event → *observation
}

// key stands for what events have in common. Texts would be some hundred bytes, several for each event.
type key [sha256.Size]byte

// with is the key of what has further texts in common.
func (k key) with(texts ...string) key {
	h := sha256.New()
	h.Write(k[:])
	for _, text := range texts {
		_, _ = io.WriteString(h, text) // a hash takes all
		h.Write([]byte{0})             // so that none flows into the next
	}
	h.Sum(k[:0])
	return k
}

// outcome is what to do: drop, patch the stored event, or create event.
type outcome struct {
	drop  bool
	event *corev1.Event
	patch []byte
	key   key
}

type bucket struct {
	tokens float64
	last   time.Time
}

type similarity struct {
	messages []key // fewer than similarLimit
	last     time.Time
}

type observation struct {
	name            string
	resourceVersion string
	count           int32
	first           metav1.Time
}

func newCorrelator() *correlator {
	return &correlator{buckets: lru.New(cacheEntries), similar: lru.New(cacheEntries), seen: lru.New(cacheEntries)}
}

func (c *correlator) correlate(e *corev1.Event) outcome {
	if !c.spend(e) {
		return outcome{drop: true}
	}
	k := c.aggregate(e)
	prev, ok := c.seen.Get(k)
	if !ok {
		return outcome{event: e, key: k}
	}
	o := prev.(*observation)
	e.Name = o.name
	e.ResourceVersion = o.resourceVersion
	e.FirstTimestamp = o.first
	e.Count = o.count + 1
	return outcome{event: e, key: k, patch: countPatch(e)}
}

// stored remembers what the server has now.
func (c *correlator) stored(k key, e *corev1.Event) {
	c.seen.Add(k, &observation{name: e.Name, resourceVersion: e.ResourceVersion, count: e.Count, first: e.FirstTimestamp})
}

// spend takes a token from the bucket of the event's source and object.
func (c *correlator) spend(e *corev1.Event) bool {
	source := sourceKey(e)
	b := &bucket{tokens: bucketSize, last: e.LastTimestamp.Time}
	if v, ok := c.buckets.Get(source); ok {
		b = v.(*bucket)
	}
	if passed := e.LastTimestamp.Sub(b.last); passed > 0 {
		b.tokens = min(bucketSize, b.tokens+float64(passed)/float64(bucketRefill))
		b.last = e.LastTimestamp.Time
	}
	c.buckets.Add(source, b)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// aggregate folds events that differ in their message alone, once there are too many of them, and returns the key
// under which equal events are counted.
func (c *correlator) aggregate(e *corev1.Event) key {
	group := sourceKey(e).with(e.Type, e.Reason, e.ReportingController, e.ReportingInstance)
	s := &similarity{}
	if v, ok := c.similar.Get(group); ok {
		s = v.(*similarity)
	}
	if e.LastTimestamp.Sub(s.last) > similarInterval {
		s.messages = nil
	}
	s.last = e.LastTimestamp.Time
	c.similar.Add(group, s)
	message := group.with(e.Message)
	switch known := slices.Contains(s.messages, message); {
	case known:
		return message
	case len(s.messages) < similarLimit-1:
		s.messages = append(s.messages, message)
		return message
	}
	e.Message = combinedFromPrefix + e.Message
	return group
}

func sourceKey(e *corev1.Event) key {
	o := &e.InvolvedObject
	return key{}.with(e.Source.Component, e.Source.Host, o.Kind, o.Namespace, o.Name, string(o.UID), o.APIVersion, o.FieldPath)
}

// countPatch is the strategic merge patch that makes a stored event into e.
func countPatch(e *corev1.Event) []byte {
	data, err := json.Marshal(map[string]any{
		"count":         e.Count,
		"lastTimestamp": e.LastTimestamp,
		"message":       e.Message,
	})
	if err != nil {
		panic("encode an event patch: " + err.Error()) // integers, strings and times always encode
	}
	return data
}
