package events

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// Events is the row of events.k8s.io/v1 Event. It is stored as core/v1 Event.
var Events = api.Register(&api.Resource{
	Group:       eventsv1.GroupName,
	Name:        "events",
	Singular:    "event",
	Kind:        "Event",
	ShortNames:  []string{"ev"},
	Namespaced:  true,
	LooseMeta:   true, // validateEvent looks at it, after other things
	Versions:    []api.Version{version()},
	StoredAs:    corev1.SchemeGroupVersion.WithKind("Event"),
	Prefix:      "events",
	Uncollected: true,
	TTL:         func(api.Object) time.Duration { return core.EventLife },

	Validate:                 api.Check(validateEvent),
	ValidateUpdate:           api.CheckUpdate(validateEventUpdate),
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,

	Fields:       core.EventFields,
	FieldAliases: fieldAliases,
	Columns:      core.EventColumns,
	Cells:        api.Print(core.EventCells),
})

// fieldAliases lead from this group's names of the selectable fields to core's.
var fieldAliases = map[string]string{
	"reason":                    "reason",
	"type":                      "type",
	"reportingController":       "reportingComponent",
	"regarding.kind":            "involvedObject.kind",
	"regarding.namespace":       "involvedObject.namespace",
	"regarding.name":            "involvedObject.name",
	"regarding.uid":             "involvedObject.uid",
	"regarding.apiVersion":      "involvedObject.apiVersion",
	"regarding.resourceVersion": "involvedObject.resourceVersion",
	"regarding.fieldPath":       "involvedObject.fieldPath",
}

func version() api.Version {
	v := api.Serve[eventsv1.Event, eventsv1.EventList]("v1")
	v.ToHub = func(o api.Object) (api.Object, error) { return toCore(o.(*eventsv1.Event)), nil }
	v.FromHub = func(o api.Object) (api.Object, error) { return fromCore(o.(*corev1.Event)), nil }
	return v
}

func toCore(e *eventsv1.Event) *corev1.Event {
	e = e.DeepCopy()
	out := &corev1.Event{
		ObjectMeta:          e.ObjectMeta,
		InvolvedObject:      e.Regarding,
		Related:             e.Related,
		Reason:              e.Reason,
		Message:             e.Note,
		Type:                e.Type,
		EventTime:           e.EventTime,
		Action:              e.Action,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func fromCore(e *corev1.Event) *eventsv1.Event {
	e = e.DeepCopy()
	out := &eventsv1.Event{
		ObjectMeta:               e.ObjectMeta,
		Regarding:                e.InvolvedObject,
		Related:                  e.Related,
		Reason:                   e.Reason,
		Note:                     e.Message,
		Type:                     e.Type,
		EventTime:                e.EventTime,
		Action:                   e.Action,
		ReportingController:      e.ReportingController,
		ReportingInstance:        e.ReportingInstance,
		DeprecatedSource:         e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp,
		DeprecatedLastTimestamp:  e.LastTimestamp,
		DeprecatedCount:          e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func validateEvent(ev *corev1.Event) (e check.Errors) {
	e.Add(core.ValidateEvent(ev, "reportingController")...)
	e.Add(apivalidation.ValidateObjectMeta(&ev.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))...)
	e.Add(check.Finalizers(ev)...)
	e.Add(validateSeries(ev)...)
	if ev.EventTime.Time.IsZero() {
		e.Required(field.NewPath("eventTime"), "")
	}
	if !slices.Contains([]string{corev1.EventTypeNormal, corev1.EventTypeWarning}, ev.Type) {
		e.Invalidf(field.NewPath("type"), "", "has invalid value: %v", ev.Type)
	}
	for _, old := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !ev.FirstTimestamp.IsZero()}, {"lastTimestamp", !ev.LastTimestamp.IsZero()},
		{"count", ev.Count != 0}, {"source", ev.Source != (corev1.EventSource{})},
	} {
		if old.set {
			e.Invalid(field.NewPath(old.name), "", "needs to be unset")
		}
	}
	return e
}

func validateSeries(ev *corev1.Event) (e check.Errors) {
	if ev.Series == nil {
		return nil
	}
	if ev.Series.Count < 2 {
		e.Invalid(field.NewPath("series.count"), "", "should be at least 2")
	}
	if ev.Series.LastObservedTime.Time.IsZero() {
		e.Required(field.NewPath("series.lastObservedTime"), "")
	}
	return e
}

// validateEventUpdate lets the series grow and nothing else change.
func validateEventUpdate(ev, old *corev1.Event) (e check.Errors) {
	e.Add(core.ValidateEvent(ev, "reportingController")...)
	e.Add(apivalidation.ValidateObjectMetaUpdate(&ev.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))...)
	e.Add(check.Finalizers(ev)...)
	if ev.Series != nil && (old.Series == nil || *ev.Series != *old.Series) {
		e.Add(validateSeries(ev)...)
	}
	fixed := func(name string, now, before any) { e.Unchanged(field.NewPath(name), now, before) }
	fixed("involvedObject", ev.InvolvedObject, old.InvolvedObject)
	fixed("reason", ev.Reason, old.Reason)
	fixed("message", ev.Message, old.Message)
	fixed("source", ev.Source, old.Source)
	fixed("firstTimestamp", ev.FirstTimestamp, old.FirstTimestamp)
	fixed("lastTimestamp", ev.LastTimestamp, old.LastTimestamp)
	fixed("count", ev.Count, old.Count)
	fixed("reason", ev.Reason, old.Reason) // upstream reports it twice
	fixed("type", ev.Type, old.Type)
	// Clients may have sent more digits than JSON keeps.
	if !ev.EventTime.Truncate(time.Microsecond).Equal(old.EventTime.Truncate(time.Microsecond)) {
		fixed("eventTime", ev.EventTime, old.EventTime)
	}
	fixed("action", ev.Action, old.Action)
	fixed("related", ev.Related, old.Related)
	fixed("reportingController", ev.ReportingController, old.ReportingController)
	fixed("reportingInstance", ev.ReportingInstance, old.ReportingInstance)
	return e
}
