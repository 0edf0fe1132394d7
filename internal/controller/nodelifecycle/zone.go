package nodelifecycle

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
)

// Upstream's defaults: nodes a second that may be tainted for eviction in a zone.
const (
	normalRate        = rate.Limit(0.1)
	disruptedRate     = rate.Limit(0.01)
	largeZone         = 50   // smaller zones that are disrupted evict nobody
	disruptedFraction = 0.55 // of a zone's nodes not ready: it is disrupted
)

// health is the condition of a zone.
type health int

const (
	normal health = iota
	partial
	full // no node is ready
)

// zoneHealth judges a zone by its nodes.
func zoneHealth(ready, notReady int) health {
	switch {
	case ready == 0 && notReady > 0:
		return full
	case notReady > 2 && float64(notReady)/float64(notReady+ready) >= disruptedFraction:
		return partial
	}
	return normal
}

// evictionRate is how fast nodes of a zone may be tainted.
func evictionRate(h health, nodes int, allFull bool) rate.Limit {
	switch {
	case allFull:
		return 0
	case h == partial && nodes > largeZone:
		return disruptedRate
	case h == partial:
		return 0
	}
	return normalRate // a zone that is lost as a whole, while others live, is evicted like any other
}

// zoneOf names a node's zone.
func zoneOf(node *corev1.Node) string {
	return node.Labels[corev1.LabelTopologyRegion] + "/" + node.Labels[corev1.LabelTopologyZone]
}

// zones limits evictions by zone.
type zones struct {
	mu       sync.Mutex
	limiters map[string]*rate.Limiter
}

// census counts nodes by zone and readiness.
type census struct {
	ready, notReady map[string]int
}

func count(nodes []*corev1.Node) census {
	c := census{map[string]int{}, map[string]int{}}
	for _, n := range nodes {
		if ready(n) == corev1.ConditionTrue {
			c.ready[zoneOf(n)]++
			continue
		}
		c.notReady[zoneOf(n)]++
	}
	return c
}

// lost tells whether no node of any zone is ready.
func (c census) lost() bool { return len(c.ready) == 0 && len(c.notReady) > 0 }

// admit asks whether a node of a zone may be tainted now; if not it says when to ask again, 0 for not before something changes.
func (z *zones) admit(zone string, c census, now time.Time) (ok bool, after time.Duration) {
	limit := evictionRate(zoneHealth(c.ready[zone], c.notReady[zone]), c.ready[zone]+c.notReady[zone], c.lost())
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.limiters == nil {
		z.limiters = map[string]*rate.Limiter{}
	}
	l := z.limiters[zone]
	if l == nil {
		l = rate.NewLimiter(limit, 1)
		z.limiters[zone] = l
	}
	if l.Limit() != limit {
		l.SetLimitAt(now, limit)
	}
	if limit == 0 {
		return false, 0
	}
	r := l.ReserveN(now, 1)
	if after = r.DelayFrom(now); after > 0 {
		r.CancelAt(now)
		return false, after
	}
	return true, 0
}
