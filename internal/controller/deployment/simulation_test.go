package deployment

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
)

// TestRollingUpdate plays rollouts with a seeded random source: pods are created, become available, die and end in any
// order between any two steps. No step may take a Deployment below what must be available or above what may exist.
func TestRollingUpdate(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("keeps within its bounds with seed %d", seed), func(t *testing.T) {
			simulate(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func simulate(t *testing.T, rnd *rand.Rand) {
	share := func() string {
		if rnd.IntN(2) == 0 {
			return fmt.Sprint(rnd.IntN(4))
		}
		return fmt.Sprintf("%d%%", rnd.IntN(101))
	}
	d := deployment(int32(1+rnd.IntN(12)), share(), share())
	c := newCluster(t, d)
	c.settle()
	c.update("v2")
	bounds := newRollout(state{deployment: c.d, sets: c.sets, now: c.now})
	most := *d.Spec.Replicas + bounds.maxSurge()
	least := *d.Spec.Replicas - bounds.maxUnavailable()
	for step := range 500 {
		c.now = c.now.Add(time.Second)
		switch rnd.IntN(8) {
		case 0:
			if step < 300 && rnd.IntN(10) == 0 {
				c.update(fmt.Sprint("v", rnd.IntN(4)))
			}
		case 1, 2, 3:
			for _, set := range c.sets {
				play(rnd, set)
			}
		default:
			before := sure(c.sets)
			c.step()
			if total := specReplicas(c.sets...); total > most {
				t.Fatalf("step %d: %d pods are asked for, %d may be: %s", step, total, most, c)
			}
			// Pods that are given up may be available ones: count what is sure to remain.
			if left := sure(c.sets); left < least && left < before {
				t.Fatalf("step %d: only %d pods surely remain available, %d must: %s", step, left, least, c)
			}
		}
	}
	c.settle()
	for _, set := range c.sets {
		n := *set.Spec.Replicas
		if current := sameTemplate(&c.d.Spec.Template, &set.Spec.Template); current && n != *d.Spec.Replicas || !current && n != 0 {
			t.Fatalf("ends with %s", c)
		}
	}
}

// play lets a set's status follow its size by some of the steps that are due: pods that aren't available go first.
func play(rnd *rand.Rand, set *appsv1.ReplicaSet) {
	s := &set.Status
	want := *set.Spec.Replicas
	switch {
	case s.Replicas > want:
		s.Replicas = want
		s.AvailableReplicas = min(s.AvailableReplicas, want)
	case s.Replicas < want:
		s.Replicas += 1 + rnd.Int32N(want-s.Replicas)
	}
	if s.AvailableReplicas < s.Replicas {
		s.AvailableReplicas += rnd.Int32N(s.Replicas - s.AvailableReplicas + 1)
	}
	s.ReadyReplicas = s.AvailableReplicas
	s.ObservedGeneration = set.Generation
}

func sure(sets []*appsv1.ReplicaSet) (n int32) {
	for _, set := range sets {
		n += surelyAvailable(set)
	}
	return n
}
