package batch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// Jobs is the row of batch/v1 Job.
var Jobs = api.Register(&api.Resource{
	Group:        batchv1.GroupName,
	Name:         "jobs",
	Singular:     "job",
	Kind:         "Job",
	Categories:   []string{"all"},
	Namespaced:   true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[batchv1.Job, batchv1.JobList]("v1")},
	Prefix:       "jobs",

	Default: api.On(defaultJob),
	PrepareCreate: api.On(func(j *batchv1.Job) {
		if !ptr.Deref(j.Spec.ManualSelector, false) {
			generateSelector(j)
		}
		j.Status = batchv1.JobStatus{}
		core.DropDisabledTemplateFields(&j.Spec.Template, nil)
	}),
	PrepareUpdate: api.OnUpdate(func(n, o *batchv1.Job) {
		n.Status = o.Status
		core.DropDisabledTemplateFields(&n.Spec.Template, &o.Spec.Template)
	}),
	Validate:                 api.Check(func(j *batchv1.Job) check.Errors { return validateJob(j, nil) }),
	Canonicalize:             api.On(labelJob),
	ValidateUpdate:           api.CheckUpdate(validateJobUpdate),
	Warnings:                 api.Warn(jobWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged:              func(n, o api.Object) bool { return jobChanged(n.(*batchv1.Job), o.(*batchv1.Job)) },
	DefaultPropagation:       metav1.DeletePropagationOrphan, // as it was before there was garbage collection
	OrphanWarning:            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",

	UnknownField: "field label %q not supported for Job",
	Fields: map[string]func(api.Object) string{
		"status.successful": api.Select(func(j *batchv1.Job) string { return strconv.Itoa(int(j.Status.Succeeded)) }),
	},
	Columns: slices.Concat([]metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Status", "string", "Status of the job."),
		api.Column("Completions", "string", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
		api.Column("Duration", "string", "Time required to complete the job."),
		api.AgeColumn,
	}, templateColumns),
	Cells: api.Print(func(j *batchv1.Job, p api.PrintOptions) []any {
		took := ""
		switch s := j.Status; {
		case s.StartTime == nil:
		case s.CompletionTime == nil:
			took = duration.HumanDuration(p.Now.Sub(s.StartTime.Time))
		default:
			took = duration.HumanDuration(s.CompletionTime.Sub(s.StartTime.Time))
		}
		cells := []any{j.Name, printStatus(j), printCompletions(j), took, api.Age(j.CreationTimestamp, p)}
		return append(cells, templateCells(&j.Spec)...)
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *batchv1.Job) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckUpdate(validateJobStatusUpdate),
	},
})

// templateColumns are printed on demand, for both kinds.
var templateColumns = []metav1.TableColumnDefinition{
	api.WideColumn("Containers", "string", "Names of each container in the template."),
	api.WideColumn("Images", "string", "Images referenced by each container in the template."),
	api.WideColumn("Selector", "string", batchv1.JobSpec{}.SwaggerDoc()["selector"]),
}

func templateCells(s *batchv1.JobSpec) []any {
	var names, images []string
	for _, c := range s.Template.Spec.Containers {
		names, images = append(names, c.Name), append(images, c.Image)
	}
	return []any{strings.Join(names, ","), strings.Join(images, ","), metav1.FormatLabelSelector(s.Selector)}
}

func printCompletions(j *batchv1.Job) string {
	switch parallelism := ptr.Deref(j.Spec.Parallelism, 0); {
	case j.Spec.Completions != nil:
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case parallelism > 1:
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, parallelism)
	default:
		return fmt.Sprintf("%d/1", j.Status.Succeeded)
	}
}

func printStatus(j *batchv1.Job) string {
	switch {
	case is(j, batchv1.JobComplete):
		return "Complete"
	case is(j, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case is(j, batchv1.JobSuspended):
		return "Suspended"
	case is(j, batchv1.JobFailureTarget):
		return "FailureTarget"
	case is(j, batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	default:
		return "Running"
	}
}

func is(j *batchv1.Job, condition batchv1.JobConditionType) bool {
	return hasCondition(j, condition, corev1.ConditionTrue)
}

func hasCondition(j *batchv1.Job, condition batchv1.JobConditionType, status corev1.ConditionStatus) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == condition && c.Status == status })
}

func isFinished(j *batchv1.Job) bool { return is(j, batchv1.JobComplete) || is(j, batchv1.JobFailed) }

func isIndexed(s *batchv1.JobSpec) bool {
	return ptr.Deref(s.CompletionMode, "") == batchv1.IndexedCompletion
}

func jobChanged(n, o *batchv1.Job) bool { return !equality.Semantic.DeepEqual(n.Spec, o.Spec) }

func defaultJob(j *batchv1.Job) {
	defaultTemplate(&j.Spec)
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = ptr.To[int32](1)
	}
	setDefault(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		setDefault(&s.BackoffLimit, 1<<31-1)
	}
	setDefault(&s.BackoffLimit, 6)
	labelJob(j)
	setDefault(&s.CompletionMode, batchv1.NonIndexedCompletion)
	setDefault(&s.Suspend, false)
	if s.PodFailurePolicy != nil {
		setDefault(&s.PodReplacementPolicy, batchv1.Failed)
	}
	setDefault(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	setDefault(&s.ManualSelector, false)
}

// labelJob gives a job without labels those of its pods: upstream shows them so, from the generated ones on.
func labelJob(j *batchv1.Job) {
	if len(j.Labels) == 0 {
		j.Labels = j.Spec.Template.Labels
	}
}

// defaultTemplate sets what is defaulted in a CronJob's template of jobs, too.
func defaultTemplate(s *batchv1.JobSpec) {
	core.DefaultPodTemplate(&s.Template)
	if s.PodFailurePolicy == nil {
		return
	}
	for i := range s.PodFailurePolicy.Rules {
		patterns := s.PodFailurePolicy.Rules[i].OnPodConditions
		for k := range patterns {
			if patterns[k].Status == "" {
				patterns[k].Status = corev1.ConditionTrue
			}
		}
	}
}

func setDefault[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

const (
	legacyJobNameLabel       = "job-name"
	legacyControllerUIDLabel = "controller-uid"
)

// generateSelector labels the pods with the job's identity and selects them by it. What a client wrote is left, for validation to refuse.
func generateSelector(j *batchv1.Job) {
	add := func(m *map[string]string, key, value string) {
		if *m == nil {
			*m = map[string]string{}
		}
		if _, there := (*m)[key]; !there {
			(*m)[key] = value
		}
	}
	labels := &j.Spec.Template.Labels
	add(labels, legacyJobNameLabel, j.Name)
	add(labels, batchv1.JobNameLabel, j.Name)
	add(labels, legacyControllerUIDLabel, string(j.UID))
	add(labels, batchv1.ControllerUidLabel, string(j.UID))
	setDefault(&j.Spec.Selector, metav1.LabelSelector{})
	add(&j.Spec.Selector.MatchLabels, batchv1.ControllerUidLabel, string(j.UID))
}

func jobWarnings(j, old *batchv1.Job) (warnings []string) {
	if old == nil {
		warnings = nameWarnings(j.Name)
	} else if !jobChanged(j, old) {
		return nil
	}
	return append(warnings, specWarnings(&j.Spec, field.NewPath("spec"))...)
}

// nameWarnings recommend a name that is a DNS label, since pods' hostnames are made of it.
func nameWarnings(name string) []string {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
	}
	return nil
}

func specWarnings(s *batchv1.JobSpec, path *field.Path) (warnings []string) {
	if isIndexed(s) && ptr.Deref(s.Completions, 0) > manyCompletions && ptr.Deref(s.Parallelism, 0) > parallelismOfMany {
		warnings = append(warnings, path.String()+": In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	return append(warnings, core.TemplateWarnings(&s.Template, path.Child("template"))...)
}
