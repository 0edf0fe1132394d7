package fairness

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/apiserver/request"
)

// limited is a level with queues, or without if there are none.
func limited(name string, shares int32, queues, hand, length int32) *flowcontrolv1.PriorityLevelConfiguration {
	l := &flowcontrolv1.LimitedPriorityLevelConfiguration{
		NominalConcurrencyShares: ptr.To(shares), LendablePercent: ptr.To[int32](0), BorrowingLimitPercent: ptr.To[int32](0),
		LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
	}
	if queues > 0 {
		l.LimitResponse = flowcontrolv1.LimitResponse{
			Type:    flowcontrolv1.LimitResponseTypeQueue,
			Queuing: &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: hand, QueueLengthLimit: length},
		}
	}
	return &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-of-level-" + "x"},
		Spec:       flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: l},
	}
}

// everything is a schema for all requests of some users, by user.
func everything(name, level string, precedence int32, users ...string) *flowcontrolv1.FlowSchema {
	s := mandatorySchema(name, precedence)
	s.Spec.PriorityLevelConfiguration.Name = level
	s.Spec.Rules[0].Subjects = nil
	for _, u := range users {
		s.Spec.Rules[0].Subjects = append(s.Spec.Rules[0].Subjects, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: u}})
	}
	return s
}

func get(name string) Request {
	return Request{
		User: &user.DefaultInfo{Name: name, Groups: []string{"system:authenticated"}},
		Info: &request.Info{IsResource: true, Verb: "get", Version: "v1", Resource: "pods", Namespace: "default", Name: "p"},
	}
}

// crowd sets up a controller whose level "work" has so many seats.
func crowd(seats int, work *flowcontrolv1.PriorityLevelConfiguration, users ...string) *Controller {
	c := New(Config{Seats: seats})
	catchAll := mandatoryLevels()[1]
	catchAll.Spec.Limited.NominalConcurrencyShares = ptr.To[int32](0)
	c.digest([]*flowcontrolv1.PriorityLevelConfiguration{work, catchAll}, []*flowcontrolv1.FlowSchema{everything("work", "work", 500, users...)})
	return c
}

func (c *Controller) state(t *testing.T, name string) *levelState {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.levels[name]
	if s == nil {
		t.Fatalf("there is no level %s", name)
	}
	return s
}

func TestALevelWithoutQueuesRefusesWhatFindsNoSeat(t *testing.T) {
	c := crowd(2, limited("work", 10, 0, 0, 0), "u")
	var a, b, d Ticket
	if c.Admit(&a, get("u")) != Executing || c.Admit(&b, get("u")) != Executing || c.Admit(&d, get("u")) != Rejected {
		t.Fatal("two seats, three requests")
	}
	a.Leave()
	a.Leave()
	if c.Admit(&d, get("u")) != Executing {
		t.Fatal("a seat is free")
	}
	b.Leave()
	d.Leave()
	if l := c.state(t, "work"); !l.idle() || l.seats != 0 || l.rejected != 1 {
		t.Errorf("in the end: %d seats, %d refused", l.seats, l.rejected)
	}
}

func TestAnExemptRequestNeverWaits(t *testing.T) {
	c := crowd(1, limited("work", 10, 0, 0, 0), "u")
	r := get("admin")
	r.User = &user.DefaultInfo{Name: "admin", Groups: []string{"system:masters"}}
	var tickets [50]Ticket
	for i := range tickets {
		if c.Admit(&tickets[i], r) != Executing {
			t.Fatal("an administrator was held up")
		}
	}
	if got := c.state(t, "exempt").executing; got != len(tickets) {
		t.Errorf("%d execute", got)
	}
}

func TestAFullQueueRefuses(t *testing.T) {
	c := crowd(1, limited("work", 10, 1, 1, 2), "u")
	outcomes := []Outcome{}
	var tickets [4]Ticket
	for i := range tickets {
		outcomes = append(outcomes, c.Admit(&tickets[i], get("u")))
	}
	want := []Outcome{Executing, Queued, Queued, Rejected}
	for i := range want {
		if outcomes[i] != want[i] {
			t.Fatalf("got %v, want %v", outcomes, want)
		}
	}
}

func TestAQueuedRequestWaitsForASeatOrItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crowd(1, limited("work", 10, 4, 2, 10), "u")
		var first, patient, hasty Ticket
		c.Admit(&first, get("u"))
		c.Admit(&patient, get("u"))
		c.Admit(&hasty, get("u"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if hasty.Wait(ctx) || time.Since(began) != time.Second {
			t.Error("there is no seat")
		}
		go func() { time.Sleep(time.Minute); first.Leave() }()
		if !patient.Wait(t.Context()) || time.Since(began) != time.Second+time.Minute {
			t.Errorf("seated after %s", time.Since(began))
		}
		patient.Leave()
		hasty.Leave()
		l := c.state(t, "work")
		if len(l.queues) != 0 || len(l.backlog) != 0 || l.active != 0 || l.seats != 0 || l.waitingSeats != 0 || l.seated.length != 0 {
			t.Errorf("something is left: %d queues, %d active, %d seats", len(l.queues), l.active, l.seats)
		}
		if l.stats["work"].timedOut != 1 || l.cancelled != 1 {
			t.Error("the one that gave up is not counted")
		}
	})
}

// loads runs clients of two users against one seat-limited level and returns how many requests of each were served in a minute.
func loads(t *testing.T, c *Controller, workers map[string]int) map[string]int {
	t.Helper()
	served := map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		c.began = time.Now()
		for _, l := range c.levels {
			l.advanced = 0
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var mu sync.Mutex
		var group sync.WaitGroup
		for name, n := range workers {
			for range n {
				group.Go(func() {
					for ctx.Err() == nil {
						var ticket Ticket
						out := c.Admit(&ticket, get(name))
						if out == Rejected {
							time.Sleep(time.Second)
							continue
						}
						if out == Queued && !ticket.Wait(ctx) {
							return
						}
						time.Sleep(10 * time.Millisecond)
						ticket.Leave()
						mu.Lock()
						served[name]++
						mu.Unlock()
					}
				})
			}
		}
		group.Wait()
	})
	return served
}

func TestAFlowThatFloodsTheServerDoesNotDrownAnother(t *testing.T) {
	c := crowd(4, limited("work", 10, 64, 6, 50), "elephant", "mouse")
	served := loads(t, c, map[string]int{"elephant": 200, "mouse": 2})
	// Two workers without any competition serve 12,000 requests in a minute. Fair queuing gives an active queue the same as any other;
	// the elephant's hand has six, so the mouse's two workers get two of eight shares of four seats, at the least.
	if served["mouse"] < 5000 {
		t.Errorf("served %v", served)
	}
	if total := served["mouse"] + served["elephant"]; total < 23_000 {
		t.Errorf("the seats were not used: %d of 24,000", total)
	}
}

func TestSeatsGoToQueuesInEqualShares(t *testing.T) {
	c := crowd(2, limited("work", 10, 1024, 1, 100), "a", "b")
	served := loads(t, c, map[string]int{"a": 50, "b": 10})
	if ratio := float64(served["a"]) / float64(served["b"]); math.Abs(ratio-1) > 0.05 {
		t.Errorf("served %v", served)
	}
}

func TestWideRequestsAreNotStarvedByNarrowOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crowd(100, limited("work", 10, 64, 2, 100), "wide", "narrow")
		c.cfg.Objects = func(*request.Info) (int64, int64) { return 1000, 1000 } // a megabyte: ten seats
		l := c.state(t, "work")
		l.setLimit(10, 10)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 30 {
			group.Go(func() {
				for ctx.Err() == nil {
					var ticket Ticket
					if c.Admit(&ticket, get("narrow")) == Queued && !ticket.Wait(ctx) {
						return
					}
					time.Sleep(10 * time.Millisecond)
					ticket.Leave()
				}
			})
		}
		time.Sleep(time.Second)
		r := get("wide")
		r.Info = &request.Info{IsResource: true, Verb: "list", Version: "v1", Resource: "pods"}
		var ticket Ticket
		limit, stop := context.WithTimeout(t.Context(), 2*time.Second)
		if c.Admit(&ticket, r) == Queued && !ticket.Wait(limit) {
			t.Error("the list never got its ten seats")
		}
		if ticket.work.seats() != 10 {
			t.Errorf("the list is %d seats wide", ticket.work.seats())
		}
		ticket.Leave()
		stop()
		cancel()
		group.Wait()
	})
}

func TestAWritesSeatsLingerWhileItsWatchersAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crowd(1000, limited("work", 10, 8, 2, 100), "u")
		pods := &request.Info{IsResource: true, Verb: "watch", Version: "v1", Resource: "pods"}
		var forget []func()
		for range 55 {
			forget = append(forget, c.Watch(pods, ""))
		}
		c.Watch(pods, "fieldSelector=spec.nodeName%3Dn1") // doesn't count
		r := get("u")
		r.Info = &request.Info{IsResource: true, Verb: "update", Version: "v1", Resource: "pods", Namespace: "default", Name: "p"}
		var ticket Ticket
		c.Admit(&ticket, r)
		if got := ticket.work; got != (estimate{1, 6, 5 * time.Millisecond}) {
			t.Errorf("estimated %+v", got)
		}
		ticket.Leave()
		l := c.state(t, "work")
		taken := func() (seats, queues int) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.seats, len(l.queues)
		}
		if seats, _ := taken(); seats != 6 || !l.idle() {
			t.Errorf("%d seats are taken", seats)
		}
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		if seats, queues := taken(); seats != 0 || queues != 0 {
			t.Errorf("%d seats are still taken", seats)
		}
		for _, f := range forget {
			f()
		}
		if len(c.watches.count) != 0 {
			t.Errorf("left: %v", c.watches.count)
		}
	})
}

func TestALevelLendsWhatItDoesNotUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, quiet := limited("busy", 10, 8, 2, 100), limited("quiet", 10, 8, 2, 100)
		busy.Spec.Limited.BorrowingLimitPercent, quiet.Spec.Limited.LendablePercent = nil, ptr.To[int32](50)
		catchAll := mandatoryLevels()[1]
		catchAll.Spec.Limited.NominalConcurrencyShares = ptr.To[int32](0)
		c := New(Config{Seats: 100})
		c.digest([]*flowcontrolv1.PriorityLevelConfiguration{busy, quiet, catchAll},
			[]*flowcontrolv1.FlowSchema{everything("busy", "busy", 500, "b"), everything("quiet", "quiet", 500, "q")})
		var tickets [90]Ticket
		queued := 0
		for i := range tickets {
			if c.Admit(&tickets[i], get("b")) == Queued {
				queued++
			}
		}
		// Until somebody demands something, what a level lends is everybody's: of 100 seats, 50 and 25 are kept.
		if queued != 90-67 {
			t.Fatalf("%d wait", queued)
		}
		time.Sleep(adjustEvery)
		c.adjust()
		b, q := c.state(t, "busy"), c.state(t, "quiet")
		if b.current <= 67 || q.current < q.min || b.executing != b.current {
			t.Errorf("the busy level has %d seats and uses %d; the quiet one %d", b.current, b.executing, q.current)
		}
	})
}

func TestARequestOfALevelThatGoesAwayIsServedToItsEnd(t *testing.T) {
	c := crowd(1, limited("work", 10, 4, 2, 10), "u")
	var first, second Ticket
	c.Admit(&first, get("u"))
	c.Admit(&second, get("u"))
	c.digest(nil, nil)
	if !c.state(t, "work").retiring {
		t.Error("the level goes on")
	}
	var third Ticket
	if c.Admit(&third, get("u")); third.schema.object.Name != "catch-all" {
		t.Errorf("a new request falls under %s", third.schema.object.Name)
	}
	first.Leave()
	if !second.Wait(t.Context()) {
		t.Error("the second was not served")
	}
	second.Leave()
	c.adjust()
	if c.levels["work"] != nil {
		t.Error("the level is still there")
	}
}

func TestDealtHandsAreDistinctCardsAndEvenlySpread(t *testing.T) {
	var drawn [20]int
	for flow := range 20_000 {
		var space [maxHand]int
		hand := deal(hashFlow("s", string(rune(flow))), len(drawn), 5, &space)
		seen := map[int]bool{}
		for _, card := range hand {
			if card < 0 || card >= len(drawn) || seen[card] {
				t.Fatalf("a hand of %v", hand)
			}
			seen[card] = true
			drawn[card]++
		}
	}
	for card, n := range drawn {
		if n < 4700 || n > 5300 {
			t.Errorf("card %d was dealt %d times", card, n)
		}
	}
}

func TestSeatsAreDividedInProportionWithinBounds(t *testing.T) {
	for name, test := range map[string]struct {
		sum    float64
		claims []claim
		want   []float64
	}{
		"no bound matters":           {30, []claim{{1, 0, 100}, {2, 0, 100}}, []float64{10, 20}},
		"a lower bound holds":        {30, []claim{{1, 1, 100}, {20, 20, 100}, {9, 0, 100}}, []float64{1, 20, 9}},
		"an upper bound cuts":        {30, []claim{{10, 0, 100}, {20, 0, 5}}, []float64{25, 5}},
		"too little for the floors":  {10, []claim{{8, 8, 100}, {8, 8, 100}}, []float64{8, 8}},
		"more than everybody's roof": {100, []claim{{8, 8, 10}, {8, 8, 20}}, []float64{10, 20}},
		"nobody wants anything":      {60, []claim{{0, 0, 100}, {0, 0, 100}, {0, 0, 100}}, []float64{20, 20, 20}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := allocate(test.sum, test.claims)
			for i := range got {
				if math.Abs(got[i]-test.want[i]) > 1e-6 {
					t.Fatalf("got %v, want %v", got, test.want)
				}
			}
		})
	}
}

func TestRefusedClientsAreSentAwayLongerTheMoreTheyAre(t *testing.T) {
	var b backoff
	now := int64(1_000_000)
	if b.refused(now) != 1 {
		t.Error("the first waits a second")
	}
	for range 100 {
		now++
		for range 200 {
			b.refused(now)
		}
	}
	if got := b.refused(now); got != maxRetryAfter {
		t.Errorf("after a long crowd: %d", got)
	}
	for range 200 {
		now += 10
		b.refused(now)
	}
	if got := b.refused(now); got != 1 {
		t.Errorf("after a long calm: %d", got)
	}
}

func BenchmarkAdmit(b *testing.B) {
	c := crowd(600, limited("work", 10, 64, 6, 50), "u")
	masters := get("admin")
	masters.User = &user.DefaultInfo{Name: "admin", Groups: []string{"system:masters", "system:authenticated"}}
	update := get("u")
	update.Info = &request.Info{IsResource: true, Verb: "update", Version: "v1", Resource: "pods", Namespace: "default", Name: "p"}
	for name, r := range map[string]Request{"exempt": masters, "queued": get("u"), "update": update} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var t Ticket
			for b.Loop() {
				t = Ticket{}
				if c.Admit(&t, r) != Executing {
					b.Fatal("no room")
				}
				t.Leave()
			}
		})
	}
}
