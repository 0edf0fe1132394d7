package cronjob

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// state is what a decision is made from. Read-only.
type state struct {
	cron *batchv1.CronJob
	jobs []*batchv1.Job // its own
	now  time.Time
}

// plan is what to do.
type plan struct {
	status batchv1.CronJobStatus
	delete []*batchv1.Job // beyond the history limits
	stop   []*batchv1.Job // to be replaced
	create *batchv1.Job
	due    time.Time // when create was due
	events []event
	again  time.Duration
}

type event struct{ kind, reason, message string }

func (p *plan) tell(kind, reason, format string, args ...any) {
	p.events = append(p.events, event{kind, reason, fmt.Sprintf(format, args...)})
}

// gvk is the kind of the owner of the Jobs.
var gvk = batchv1.SchemeGroupVersion.WithKind("CronJob")

// makePlan decides the next step.
func makePlan(s state) plan {
	p := plan{status: *s.cron.Status.DeepCopy()}
	s.trim(&p)
	s.account(&p)
	if s.cron.DeletionTimestamp != nil {
		return p
	}
	zone := time.UTC
	if s.cron.Spec.TimeZone != nil {
		var err error
		if zone, err = time.LoadLocation(*s.cron.Spec.TimeZone); err != nil {
			p.tell(corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", *s.cron.Spec.TimeZone, err)
			return p
		}
	}
	if s.cron.Spec.Suspend != nil && *s.cron.Spec.Suspend {
		return p
	}
	sched, err := parseSchedule(s.cron.Spec.Schedule)
	if err != nil {
		p.tell(corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", s.cron.Spec.Schedule, err)
		return p
	}
	s.now = s.now.In(zone)
	if next := sched.next(s.now); !next.IsZero() {
		p.again = next.Sub(s.now) + 100*time.Millisecond // a clock that is a little ahead must not come too early
	}
	s.start(&p, sched)
	return p
}

// start creates the Job of the last time that is due, if there is one.
func (s *state) start(p *plan, sched *schedule) {
	due, missed := s.lastDue(sched)
	if due.IsZero() {
		return
	}
	if missed > 100 {
		p.tell(corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times: %d. Set or decrease .spec.startingDeadlineSeconds or check clock skew", missed)
	}
	if d := s.cron.Spec.StartingDeadlineSeconds; d != nil && due.Add(time.Duration(*d)*time.Second).Before(s.now) {
		p.tell(corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", due.UTC().Format(time.RFC1123Z))
		return
	}
	name := jobName(s.cron, due)
	if slices.ContainsFunc(p.status.Active, func(r corev1.ObjectReference) bool { return r.Name == name }) ||
		s.cron.Status.LastScheduleTime != nil && s.cron.Status.LastScheduleTime.Time.Equal(due) {
		return
	}
	switch s.cron.Spec.ConcurrencyPolicy {
	case batchv1.ForbidConcurrent:
		if len(p.status.Active) > 0 {
			p.tell(corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			return
		}
	case batchv1.ReplaceConcurrent:
		for _, ref := range p.status.Active {
			for _, job := range s.jobs {
				if job.UID == ref.UID {
					p.stop = append(p.stop, job)
				}
			}
		}
	}
	p.create, p.due = newJob(s.cron, due), due
}

// lastDue returns the last time that was due since the last one that was seen to, and about how many there were.
func (s *state) lastDue(sched *schedule) (last time.Time, missed int) {
	from := s.cron.CreationTimestamp.Time
	if s.cron.Status.LastScheduleTime != nil {
		from = s.cron.Status.LastScheduleTime.Time
	}
	if d := s.cron.Spec.StartingDeadlineSeconds; d != nil {
		if earliest := s.now.Add(-time.Duration(*d) * time.Second); earliest.After(from) {
			from = earliest
		}
	}
	from = from.In(s.now.Location())
	first := sched.next(from)
	if first.IsZero() || first.After(s.now) {
		return time.Time{}, 0
	}
	second := sched.next(first)
	if second.IsZero() || second.After(s.now) {
		return first, 1
	}
	// Long gaps are crossed in one leap: the last time lies within a few periods before now. The steps that are left are few,
	// except for schedules that are dense at some times of a day and not at others.
	period := second.Sub(first)
	missed = int(s.now.Sub(first)/period) + 1
	at := first
	if leap := s.now.Add(-49 * time.Hour); leap.After(at) && s.every(sched) {
		if after := sched.next(leap); !after.IsZero() && !after.After(s.now) {
			at = after
		}
	}
	for next := at; !next.IsZero() && !next.After(s.now); next = sched.next(next) {
		at = next
	}
	return at, missed
}

// every tells whether leaping over times is harmless: it isn't where each time follows from the one before.
func (s *state) every(sched *schedule) bool { return sched.every == 0 }

func jobName(cron *batchv1.CronJob, due time.Time) string {
	return fmt.Sprintf("%s-%d", cron.Name, due.Unix()/60)
}

// newJob makes the Job of a time.
func newJob(cron *batchv1.CronJob, due time.Time) *batchv1.Job {
	t := &cron.Spec.JobTemplate
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = due.Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: cron.Namespace, Name: jobName(cron, due), CreationTimestamp: metav1.NewTime(due),
			Labels: maps.Clone(t.Labels), Annotations: annotations, OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cron, gvk)}},
		Spec: *t.Spec.DeepCopy(),
	}
}

// outcome tells how a Job ended; empty while it runs.
func outcome(job *batchv1.Job) batchv1.JobConditionType {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

// trim chooses the oldest Jobs that ended, beyond what is kept.
func (s *state) trim(p *plan) {
	for kind, limit := range map[batchv1.JobConditionType]*int32{
		batchv1.JobComplete: s.cron.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: s.cron.Spec.FailedJobsHistoryLimit,
	} {
		if limit == nil {
			continue
		}
		var list []*batchv1.Job
		for _, job := range s.jobs {
			if outcome(job) == kind && job.DeletionTimestamp == nil {
				list = append(list, job)
			}
		}
		slices.SortFunc(list, func(a, b *batchv1.Job) int {
			return cmp.Or(started(a).Compare(started(b)), cmp.Compare(a.Name, b.Name))
		})
		if excess := len(list) - int(*limit); excess > 0 {
			p.delete = append(p.delete, list[:excess]...)
		}
	}
}

func started(job *batchv1.Job) time.Time {
	if job.Status.StartTime == nil {
		return job.CreationTimestamp.Time
	}
	return job.Status.StartTime.Time
}

// account brings the list of running Jobs and the time of the last success up to date.
func (s *state) account(p *plan) {
	byUID := map[string]*batchv1.Job{}
	for _, job := range s.jobs {
		byUID[string(job.UID)] = job
	}
	p.status.Active = slices.DeleteFunc(p.status.Active, func(ref corev1.ObjectReference) bool {
		job := byUID[string(ref.UID)]
		if job == nil {
			p.tell(corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", ref.Name)
			return true
		}
		if how := outcome(job); how != "" {
			p.tell(corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", job.Name, how)
			return true
		}
		return false
	})
	for _, job := range s.jobs {
		if outcome(job) == batchv1.JobComplete && job.Status.CompletionTime != nil &&
			(p.status.LastSuccessfulTime == nil || job.Status.CompletionTime.After(p.status.LastSuccessfulTime.Time)) {
			p.status.LastSuccessfulTime = job.Status.CompletionTime
		}
		known := slices.ContainsFunc(p.status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == job.UID })
		if !known && outcome(job) == "" && job.DeletionTimestamp == nil {
			p.tell(corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", job.Name)
		}
	}
}

// reference is how a status names a running Job.
func reference(job *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{Kind: "Job", APIVersion: batchv1.SchemeGroupVersion.String(), Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion}
}
