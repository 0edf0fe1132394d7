package cronjob

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestWhenAScheduleIsDueNext(t *testing.T) {
	for _, test := range []struct{ schedule, from, want string }{
		{"* * * * *", "2026-01-01 12:00", "2026-01-01 12:01"},
		{"*/15 * * * *", "2026-01-01 12:16", "2026-01-01 12:30"},
		{"5 4 * * *", "2026-01-01 12:00", "2026-01-02 04:05"},
		{"0 0 1 1 *", "2026-01-01 12:00", "2027-01-01 00:00"},
		{"0 22 * * 1-5", "2026-01-02 23:00", "2026-01-05 22:00"}, // from a Friday
		{"23 0-20/2 * * *", "2026-01-01 20:24", "2026-01-02 00:23"},
		{"0 12 13 * fri", "2026-01-03 00:00", "2026-01-09 12:00"}, // either field suffices
		{"0 12 */1 * fri", "2026-01-03 00:00", "2026-01-09 12:00"},
		{"0 0 29 feb *", "2026-01-01 00:00", "2028-02-29 00:00"},
		{"0 0 31 2 *", "2026-01-01 00:00", "0001-01-01 00:00"},
		{"@hourly", "2026-01-01 12:30", "2026-01-01 13:00"},
		{"@weekly", "2026-01-01 12:30", "2026-01-04 00:00"},
		{"@every 90m", "2026-01-01 12:30", "2026-01-01 14:00"},
		{"3/20 * * * *", "2026-01-01 12:24", "2026-01-01 12:43"},
	} {
		s, err := parseSchedule(test.schedule)
		if err != nil {
			t.Errorf("%s: %v", test.schedule, err)
			continue
		}
		if got := s.next(at(test.from)).Format("2006-01-02 15:04"); got != test.want {
			t.Errorf("%s from %s: %s, want %s", test.schedule, test.from, got, test.want)
		}
	}
}

func TestSchedulesThatMakeNoSense(t *testing.T) {
	for _, text := range []string{"", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "x * * * *", "@sometimes", "@every soon"} {
		if _, err := parseSchedule(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestAClockThatSkipsAnHourSkipsItsTimes(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here")
	}
	s, _ := parseSchedule("30 2 * * *")
	from := time.Date(2026, 3, 28, 3, 0, 0, 0, zone) // the clock skips from 2 to 3 on the 29th
	if got := s.next(from).Format("2006-01-02 15:04"); got != "2026-03-30 02:30" {
		t.Errorf("got %s", got)
	}
}

func cron(schedule string, change ...func(*batchv1.CronJob)) *batchv1.CronJob {
	three, one := int32(3), int32(1)
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c", CreationTimestamp: metav1.NewTime(at("2026-01-01 12:00"))},
		Spec: batchv1.CronJobSpec{Schedule: schedule, ConcurrencyPolicy: batchv1.AllowConcurrent, SuccessfulJobsHistoryLimit: &three, FailedJobsHistoryLimit: &one}}
	for _, f := range change {
		f(c)
	}
	return c
}

func job(name string, how batchv1.JobConditionType) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}}
	if how != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue}}
	}
	return j
}

func running(name string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Status.Active = append(c.Status.Active, reference(job(name, ""))) }
}

func reasons(p plan) string {
	var out []string
	for _, e := range p.events {
		out = append(out, e.reason)
	}
	return strings.Join(out, " ")
}

func TestWhatHappensWhenATimeComes(t *testing.T) {
	ten := int64(10)
	name := func(text string) string { return fmt.Sprintf("c-%d", at(text).Unix()/60) }
	for title, test := range map[string]struct {
		cron    *batchv1.CronJob
		now     string
		create  string
		stops   int
		reasons string
	}{
		"nothing is due": {cron: cron("0 * * * *"), now: "2026-01-01 12:30"},
		"a Job is made":  {cron: cron("0 * * * *"), now: "2026-01-01 13:00", create: name("2026-01-01 13:00")},
		"of several times that were missed the last counts": {cron: cron("0 * * * *"), now: "2026-01-01 18:20", create: name("2026-01-01 18:00")},
		"after a long pause there is a warning":             {cron: cron("* * * * *"), now: "2026-01-09 18:20", create: name("2026-01-09 18:20"), reasons: "TooManyMissedTimes"},
		"a time that was seen to isn't again":               {cron: cron("0 * * * *", func(c *batchv1.CronJob) { c.Status.LastScheduleTime = &metav1.Time{Time: at("2026-01-01 13:00")} }), now: "2026-01-01 13:20"},
		"a time beyond the deadline is missed":              {cron: cron("0 * * * *", func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = &ten }), now: "2026-01-01 13:20"},
		"a suspended one makes nothing":                     {cron: cron("0 * * * *", func(c *batchv1.CronJob) { yes := true; c.Spec.Suspend = &yes }), now: "2026-01-01 13:00"},
		"while one runs another may be forbidden":           {cron: cron("0 * * * *", running("a"), func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = batchv1.ForbidConcurrent }), now: "2026-01-01 13:00", reasons: "JobAlreadyActive"},
		"while one runs it may be replaced":                 {cron: cron("0 * * * *", running("a"), func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = batchv1.ReplaceConcurrent }), now: "2026-01-01 13:00", stops: 1, create: name("2026-01-01 13:00")},
		"a schedule that can't be read is told of":          {cron: cron("nonsense"), now: "2026-01-01 13:00", reasons: "UnparseableSchedule"},
		"a zone that nobody knows is told of":               {cron: cron("0 * * * *", func(c *batchv1.CronJob) { z := "Nowhere/Land"; c.Spec.TimeZone = &z }), now: "2026-01-01 13:00", reasons: "UnknownTimeZone"},
	} {
		t.Run(title, func(t *testing.T) {
			s := state{cron: test.cron, now: at(test.now)}
			for _, ref := range test.cron.Status.Active {
				s.jobs = append(s.jobs, job(ref.Name, ""))
			}
			p := makePlan(s)
			got := ""
			if p.create != nil {
				got = p.create.Name
			}
			if got != test.create || len(p.stop) != test.stops || reasons(p) != test.reasons {
				t.Errorf("creates %q, stops %d, tells %q; want %q, %d, %q", got, len(p.stop), reasons(p), test.create, test.stops, test.reasons)
			}
		})
	}
}

func TestAJobKnowsItsTime(t *testing.T) {
	p := makePlan(state{cron: cron("0 * * * *"), now: at("2026-01-01 13:00")})
	if a := p.create.Annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"]; a != "2026-01-01T13:00:00Z" || p.create.OwnerReferences[0].UID != "c" {
		t.Errorf("got %+v", p.create.ObjectMeta)
	}
	if p.again != time.Hour+100*time.Millisecond {
		t.Errorf("looks again after %v", p.again)
	}
}

func TestTheHistoryIsKeptWithinItsLimits(t *testing.T) {
	s := state{cron: cron("0 * * * *", running("d"), running("gone")), now: at("2026-01-01 12:30")}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		s.jobs = append(s.jobs, job(name, batchv1.JobComplete))
	}
	s.jobs = append(s.jobs, job("x", batchv1.JobFailed), job("y", batchv1.JobFailed), job("z", ""))
	p := makePlan(s)
	var got []string
	for _, j := range p.delete {
		got = append(got, j.Name)
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b", "x"}) || len(p.status.Active) != 0 || reasons(p) != "SawCompletedJob MissingJob UnexpectedJob" {
		t.Errorf("deletes %v, %d active, tells %q", got, len(p.status.Active), reasons(p))
	}
}
