package quota

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Request is what a request does to an object.
type Request struct {
	Create      bool // else an update
	Subresource string
	Object, Old runtime.Object
	Now         time.Time
}

// A Claim is what a request uses of a quota.
type Claim struct {
	Quota *corev1.ResourceQuota // a copy, with the new usage in its status
	Delta corev1.ResourceList
}

// Check returns the quotas that a request uses something of, with their new usage; an error is upstream's refusal.
func Check(quotas []*corev1.ResourceQuota, e Evaluator, r Request) ([]Claim, error) {
	var interested []*corev1.ResourceQuota
	for _, q := range quotas {
		names := e.Names(Names(q.Status.Hard))
		if len(names) == 0 || !inScopes(q, e, r.Object) {
			continue
		}
		if err := e.Constraints(names, r.Object); err != nil {
			return nil, fmt.Errorf("failed quota: %s: %w", q.Name, err)
		}
		for _, n := range names {
			if _, ok := q.Status.Used[n]; !ok {
				return nil, fmt.Errorf("status unknown for quota: %s, resources: %s", q.Name, showNames(names))
			}
		}
		interested = append(interested, q)
	}
	if len(interested) == 0 {
		return nil, nil
	}
	usage := e.Usage(r.Object, r.Now)
	if negative := negatives(usage); len(negative) > 0 {
		return nil, fmt.Errorf("quota usage is negative for resource(s): %s", showNames(negative))
	}
	var claims []Claim
	for _, q := range interested {
		delta := usage
		if !r.Create && r.Old != nil && inScopes(q, e, r.Old) {
			delta = Subtract(usage, e.Usage(r.Old, r.Now))
		}
		delta = Mask(nonZero(delta), Names(q.Status.Hard))
		if len(delta) == 0 {
			continue
		}
		c, err := claim(q, delta, r.Subresource)
		if err != nil {
			return nil, err
		}
		claims = append(claims, c)
	}
	return claims, nil
}

func claim(q *corev1.ResourceQuota, delta corev1.ResourceList, subresource string) (Claim, error) {
	next := q.DeepCopy()
	next.Status.Used = Add(q.Status.Used, delta)
	over := exceeded(Mask(next.Status.Used, Names(delta)), q.Status.Hard)
	if len(over) > 0 && subresource != "status" {
		return Claim{}, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name, show(Mask(delta, over)), show(Mask(q.Status.Used, over)), show(Mask(q.Status.Hard, over)))
	}
	return Claim{Quota: next, Delta: delta}, nil
}

func negatives(l corev1.ResourceList) []corev1.ResourceName {
	return slices.DeleteFunc(Names(l), func(n corev1.ResourceName) bool {
		q := l[n]
		return q.Sign() >= 0
	})
}
