package batch

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// maxCronJobName leaves room in a job's name for a dash and the time it was scheduled for.
const maxCronJobName = 63 - 11

// CronJobs is the row of batch/v1 CronJob.
var CronJobs = api.Register(&api.Resource{
	Group:      batchv1.GroupName,
	Name:       "cronjobs",
	Singular:   "cronjob",
	Kind:       "CronJob",
	ShortNames: []string{"cj"},
	Categories: []string{"all"},
	Namespaced: true,
	Versions:   []api.Version{api.Serve[batchv1.CronJob, batchv1.CronJobList]("v1")},
	Prefix:     "cronjobs",

	Default: api.On(defaultCronJob),
	PrepareCreate: api.On(func(c *batchv1.CronJob) {
		c.Status = batchv1.CronJobStatus{}
		core.DropDisabledTemplateFields(&c.Spec.JobTemplate.Spec.Template, nil)
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *batchv1.CronJob) {
		n.Status = o.Status
		core.DropDisabledTemplateFields(&n.Spec.JobTemplate.Spec.Template, &o.Spec.JobTemplate.Spec.Template)
	}),
	Validate: api.Check(func(c *batchv1.CronJob) check.Errors {
		e := validateCronJobSpec(&c.Spec, nil)
		if len(c.Name) > maxCronJobName {
			e.Invalidf(field.NewPath("metadata", "name"), c.Name, "must be no more than %d characters", maxCronJobName)
		}
		return e
	}),
	ValidateUpdate: api.CheckUpdate(func(n, o *batchv1.CronJob) check.Errors {
		return validateCronJobSpec(&n.Spec, &o.Spec)
	}),
	Warnings:                 api.Warn(cronJobWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged:              func(n, o api.Object) bool { return cronJobChanged(n.(*batchv1.CronJob), o.(*batchv1.CronJob)) },

	Columns: slices.Concat([]metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Schedule", "string", batchv1.CronJobSpec{}.SwaggerDoc()["schedule"]),
		api.Column("Timezone", "string", batchv1.CronJobSpec{}.SwaggerDoc()["timeZone"]),
		api.Column("Suspend", "boolean", batchv1.CronJobSpec{}.SwaggerDoc()["suspend"]),
		api.Column("Active", "integer", batchv1.CronJobStatus{}.SwaggerDoc()["active"]),
		api.Column("Last Schedule", "string", batchv1.CronJobStatus{}.SwaggerDoc()["lastScheduleTime"]),
		api.AgeColumn,
	}, templateColumns),
	Cells: api.Print(func(c *batchv1.CronJob, p api.PrintOptions) []any {
		last, suspended := "<none>", "<unset>"
		if at := c.Status.LastScheduleTime; at != nil {
			last = api.Age(*at, p)
		}
		if c.Spec.Suspend != nil {
			suspended = map[bool]string{true: "True", false: "False"}[*c.Spec.Suspend]
		}
		zone := ptr.Deref(c.Spec.TimeZone, "<none>")
		cells := []any{c.Name, c.Spec.Schedule, zone, suspended, int64(len(c.Status.Active)), last, api.Age(c.CreationTimestamp, p)}
		return append(cells, templateCells(&c.Spec.JobTemplate.Spec)...)
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *batchv1.CronJob) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckUpdate(func(_, _ *batchv1.CronJob) check.Errors { return nil }),
		MetaOnUpdate:   "-",
	},
})

func cronJobChanged(n, o *batchv1.CronJob) bool { return !equality.Semantic.DeepEqual(n.Spec, o.Spec) }

func defaultCronJob(c *batchv1.CronJob) {
	defaultTemplate(&c.Spec.JobTemplate.Spec)
	if c.Spec.ConcurrencyPolicy == "" {
		c.Spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	setDefault(&c.Spec.Suspend, false)
	setDefault(&c.Spec.SuccessfulJobsHistoryLimit, 3)
	setDefault(&c.Spec.FailedJobsHistoryLimit, 1)
}

func validateCronJobSpec(s, old *batchv1.CronJobSpec) (e check.Errors) {
	path := field.NewPath("spec")
	var oldTemplate *corev1.PodTemplateSpec
	if old != nil {
		oldTemplate = &old.JobTemplate.Spec.Template
	}
	if s.Schedule == "" {
		e.Required(path.Child("schedule"), "")
	} else {
		e.Add(validateSchedule(s, old, path.Child("schedule"))...)
	}
	e.NonNegative(path.Child("startingDeadlineSeconds"), ptr.Deref(s.StartingDeadlineSeconds, 0))
	if s.TimeZone != nil && (old == nil || !ptr.Equal(old.TimeZone, s.TimeZone)) {
		e.Add(validateTimeZone(*s.TimeZone, path.Child("timeZone"))...)
	}
	check.Enum(&e, path.Child("concurrencyPolicy"), s.ConcurrencyPolicy, batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)
	job, at := &s.JobTemplate.Spec, path.Child("jobTemplate", "spec")
	e.Add(validateSpec(job, oldTemplate, at)...)
	if job.Selector != nil {
		e.Invalid(at.Child("selector"), job.Selector, "`selector` will be auto-generated")
	}
	if ptr.Deref(job.ManualSelector, false) {
		e.Add(field.NotSupported(at.Child("manualSelector"), job.ManualSelector, []string{"nil", "false"}))
	}
	e.NonNegative(path.Child("successfulJobsHistoryLimit"), int64(ptr.Deref(s.SuccessfulJobsHistoryLimit, 0)))
	e.NonNegative(path.Child("failedJobsHistoryLimit"), int64(ptr.Deref(s.FailedJobsHistoryLimit, 0)))
	return e
}

func validateSchedule(s, old *batchv1.CronJobSpec, path *field.Path) (e check.Errors) {
	if err := parseSchedule(s.Schedule); err != nil {
		e.Invalid(path, s.Schedule, err.Error())
	}
	if !strings.Contains(s.Schedule, "TZ") {
		return e
	}
	if old == nil || !strings.Contains(old.Schedule, "TZ") {
		e.Invalid(path, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
	} else if s.TimeZone != nil {
		e.Invalid(path, s.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")
	}
	return e
}

// parseSchedule makes an error of the parser's panics, as on "TZ=0".
func parseSchedule(schedule string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("invalid schedule format: %v", r)
		}
	}()
	_, err = cron.ParseStandard(schedule)
	return err
}

// zonePart is a part between slashes of a time zone's name.
var zonePart = regexp.MustCompile(`^[A-Za-z\.\-_0-9+]{1,14}$`)

func validateTimeZone(zone string, path *field.Path) (e check.Errors) {
	if zone == "" {
		e.Invalid(path, zone, "timeZone must be nil or non-empty string")
		return e
	}
	for part := range strings.SplitSeq(zone, "/") {
		if part == "." || part == ".." || strings.HasPrefix(part, "-") || !zonePart.MatchString(part) {
			e.Invalid(path, zone, "unknown time zone "+zone)
			return e
		}
	}
	if strings.EqualFold(zone, "Local") {
		e.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
	}
	if _, err := time.LoadLocation(zone); err != nil {
		e.Invalid(path, zone, err.Error())
	}
	return e
}

func cronJobWarnings(c, old *batchv1.CronJob) (warnings []string) {
	if old == nil {
		warnings = nameWarnings(c.Name)
	}
	if old == nil || cronJobChanged(c, old) {
		warnings = append(warnings, specWarnings(&c.Spec.JobTemplate.Spec, field.NewPath("spec", "jobTemplate", "spec"))...)
	}
	if old != nil && strings.Contains(c.Spec.Schedule, "TZ") {
		warnings = append(warnings, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details") // sic
	}
	return warnings
}
