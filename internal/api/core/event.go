package core

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// EventLife is how long an event is kept after its last write.
const EventLife = time.Hour

// Events is the row of core/v1 Event. The row of events.k8s.io serves the same table.
var Events = api.Register(&api.Resource{
	Name:        "events",
	Singular:    "event",
	Kind:        "Event",
	ShortNames:  []string{"ev"},
	Namespaced:  true,
	LooseMeta:   true,
	Versions:    []api.Version{api.Serve[corev1.Event, corev1.EventList]("v1")},
	Prefix:      "events",
	Uncollected: true,
	TTL:         func(api.Object) time.Duration { return EventLife },

	Validate:                 api.Check(func(ev *corev1.Event) check.Errors { return ValidateEvent(ev, "reportingComponent") }),
	ValidateUpdate:           api.CheckSame(func(ev *corev1.Event) check.Errors { return ValidateEvent(ev, "reportingComponent") }),
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,

	Fields:  EventFields,
	Columns: EventColumns,
	Cells:   api.Print(EventCells),
})

// EventFields are the selectable fields of both groups' events.
var EventFields = map[string]func(api.Object) string{
	"involvedObject.kind":            api.Select(func(ev *corev1.Event) string { return ev.InvolvedObject.Kind }),
	"involvedObject.namespace":       api.Select(func(ev *corev1.Event) string { return ev.InvolvedObject.Namespace }),
	"involvedObject.name":            api.Select(func(ev *corev1.Event) string { return ev.InvolvedObject.Name }),
	"involvedObject.uid":             api.Select(func(ev *corev1.Event) string { return string(ev.InvolvedObject.UID) }),
	"involvedObject.apiVersion":      api.Select(func(ev *corev1.Event) string { return ev.InvolvedObject.APIVersion }),
	"involvedObject.resourceVersion": api.Select(func(ev *corev1.Event) string { return ev.InvolvedObject.ResourceVersion }),
	"involvedObject.fieldPath":       api.Select(func(ev *corev1.Event) string { return ev.InvolvedObject.FieldPath }),
	"reason":                         api.Select(func(ev *corev1.Event) string { return ev.Reason }),
	"reportingComponent":             api.Select(func(ev *corev1.Event) string { return ev.ReportingController }),
	"source":                         api.Select(func(ev *corev1.Event) string { return firstOf(ev.Source.Component, ev.ReportingController) }),
	"type":                           api.Select(func(ev *corev1.Event) string { return ev.Type }),
}

// EventColumns are the printed columns of both groups' events.
var EventColumns = []metav1.TableColumnDefinition{
	api.Column("Last Seen", "string", eventDoc["lastTimestamp"]),
	api.Column("Type", "string", eventDoc["type"]),
	api.Column("Reason", "string", eventDoc["reason"]),
	api.Column("Object", "string", eventDoc["involvedObject"]),
	api.WideColumn("Subobject", "string", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"]),
	api.WideColumn("Source", "string", eventDoc["source"]),
	api.Column("Message", "string", eventDoc["message"]),
	api.WideColumn("First Seen", "string", eventDoc["firstTimestamp"]),
	api.WideColumn("Count", "string", eventDoc["count"]),
	{Name: "Name", Type: "string", Format: "name", Priority: 1, Description: api.NameColumn.Description},
}

var eventDoc = corev1.Event{}.SwaggerDoc()

// The longest texts of an event.
const (
	maxEventName = 128 // reportingInstance, action, reason
	maxEventNote = 1024
)

// ValidateEvent checks what every version requires of an event; reporter is that version's name for the reporting controller.
func ValidateEvent(ev *corev1.Event, reporter string) (e check.Errors) {
	const mismatch = "does not match event.namespace"
	place := field.NewPath("involvedObject", "namespace")
	about := ev.InvolvedObject.Namespace
	if ev.EventTime.Time.IsZero() {
		if about == "" && ev.Namespace != metav1.NamespaceNone && ev.Namespace != metav1.NamespaceDefault || about != "" && about != ev.Namespace {
			e.Invalid(place, about, mismatch)
		}
	} else {
		if about == "" && ev.Namespace != metav1.NamespaceDefault && ev.Namespace != metav1.NamespaceSystem {
			e.Invalid(place, about, mismatch)
		}
		e.NonEmpty(field.NewPath(reporter), ev.ReportingController)
		e.Qualified(field.NewPath(reporter), ev.ReportingController)
		validateEventText(&e, "reportingInstance", ev.ReportingInstance)
		validateEventText(&e, "action", ev.Action)
		validateEventText(&e, "reason", ev.Reason)
		if len(ev.Message) > maxEventNote {
			e.Invalidf(field.NewPath("message"), "", "can have at most %v characters", maxEventNote)
		}
	}
	e.Messages(field.NewPath("namespace"), ev.Namespace, validation.IsDNS1123Subdomain(ev.Namespace))
	return e
}

func validateEventText(e *check.Errors, name, value string) {
	e.NonEmpty(field.NewPath(name), value)
	if len(value) > maxEventName {
		e.Invalidf(field.NewPath(name), "", "can have at most %v characters", maxEventName)
	}
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// EventCells prints an event of either group.
func EventCells(ev *corev1.Event, p api.PrintOptions) []any {
	microAge := func(t metav1.MicroTime) string {
		if t.IsZero() {
			return "<unknown>"
		}
		return duration.HumanDuration(p.Now.Sub(t.Time))
	}
	first, last, count := api.Age(ev.FirstTimestamp, p), api.Age(ev.LastTimestamp, p), ev.Count
	if ev.FirstTimestamp.IsZero() {
		first = microAge(ev.EventTime)
	}
	if ev.LastTimestamp.IsZero() {
		last = first
	}
	if ev.Series != nil {
		last, count = microAge(ev.Series.LastObservedTime), ev.Series.Count
	} else if count == 0 {
		count = 1
	}
	target := strings.ToLower(ev.InvolvedObject.Kind)
	if ev.InvolvedObject.Name != "" {
		target += "/" + ev.InvolvedObject.Name
	}
	source := firstOf(ev.Source.Component, ev.ReportingController)
	if instance := firstOf(ev.Source.Host, ev.ReportingInstance); instance != "" {
		source += ", " + instance
	}
	return []any{last, ev.Type, ev.Reason, target, ev.InvolvedObject.FieldPath, source, strings.TrimSpace(ev.Message), first, int64(count), ev.Name}
}
