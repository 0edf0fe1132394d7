package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"clipper.dev/clipper/internal/client"
)

const (
	defaultQueueLength = 1000
	writeAttempts      = 12
	retryDelay         = 10 * time.Second
)

var kind = client.Kind[*corev1.Event]{GVR: corev1.SchemeGroupVersion.WithResource("events")}

// Config says as whom and where a Recorder writes.
type Config struct {
	// Client writes the events.
	Client client.Client
	// Component is the reporting controller: "kubelet", "deployment-controller".
	Component string
	// Host is the node that the component runs on; "" where that doesn't matter.
	Host string
	// Instance is the reporting instance; "" is Host.
	Instance string
	// QueueLength bounds the events that wait for the writer; 0 is 1000.
	QueueLength int
	// Logger gets what could not be written; nil is silence.
	Logger *slog.Logger
}

// Event is one thing that happened.
type Event struct {
	// About is the object: an API object or a *corev1.ObjectReference.
	About runtime.Object
	// Related is a second object that took part; usually nil.
	Related runtime.Object
	Type    string // corev1.EventTypeNormal or EventTypeWarning
	Reason  string // CamelCase, for programs
	Action  string // what was attempted; usually ""
	Message string // for people
	// Annotations go onto the Event object.
	Annotations map[string]string
}

// Recorder records events. Its methods may be called concurrently. A nil Recorder records nothing.
type Recorder struct {
	cfg        Config
	queue      chan *corev1.Event
	correlator *correlator
	dropped    atomic.Int64
}

// New returns a recorder, which writes once Run runs.
func New(cfg Config) *Recorder {
	if cfg.QueueLength <= 0 {
		cfg.QueueLength = defaultQueueLength
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Instance == "" {
		cfg.Instance = cfg.Host
	}
	return &Recorder{cfg: cfg, queue: make(chan *corev1.Event, cfg.QueueLength), correlator: newCorrelator()}
}

// Event records that something happened to an object.
func (r *Recorder) Event(about runtime.Object, eventType, reason, message string) {
	r.Record(Event{About: about, Type: eventType, Reason: reason, Message: message})
}

// Eventf is Event with a formatted message.
func (r *Recorder) Eventf(about runtime.Object, eventType, reason, format string, args ...any) {
	r.Record(Event{About: about, Type: eventType, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// Record records an event. It never blocks; when the queue is full the event is dropped and counted.
func (r *Recorder) Record(e Event) {
	if r == nil {
		return
	}
	about, err := Reference(e.About)
	if err != nil {
		r.cfg.Logger.Error("event dropped", "reason", e.Reason, "message", e.Message, "error", err)
		return
	}
	obj := r.object(about, e)
	if e.Related != nil {
		if obj.Related, err = Reference(e.Related); err != nil {
			r.cfg.Logger.Error("event without its related object", "reason", e.Reason, "error", err)
		}
	}
	select {
	case r.queue <- obj:
	default:
		if r.dropped.Add(1) == 1 {
			r.cfg.Logger.Warn("event queue is full, dropping", "component", r.cfg.Component)
		}
	}
}

// Dropped returns how many events were lost to a full queue.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

func (r *Recorder) object(about *corev1.ObjectReference, e Event) *corev1.Event {
	now := time.Now()
	stamp := metav1.NewTime(now)
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:        fmt.Sprintf("%v.%x", about.Name, now.UnixNano()),
			Namespace:   namespace,
			Annotations: e.Annotations,
		},
		InvolvedObject:      *about,
		Reason:              e.Reason,
		Action:              e.Action,
		Message:             e.Message,
		FirstTimestamp:      stamp,
		LastTimestamp:       stamp,
		Count:               1,
		Type:                e.Type,
		Source:              corev1.EventSource{Component: r.cfg.Component, Host: r.cfg.Host},
		ReportingController: r.cfg.Component,
		ReportingInstance:   r.cfg.Instance,
	}
}

// Run writes events until ctx ends. What still waits then is lost.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-r.queue:
			r.write(ctx, e)
		}
	}
}

// write stores one event. A refusal is final; an unreachable server is asked again, as an event is worth some waiting
// but not the queue behind it for ever.
func (r *Recorder) write(ctx context.Context, e *corev1.Event) {
	result := r.correlator.correlate(e)
	if result.drop {
		return
	}
	for attempt := 0; ; attempt++ {
		stored, err := r.store(ctx, &result)
		if err == nil {
			r.correlator.stored(result.key, stored)
			return
		}
		var refusal apierrors.APIStatus
		if errors.As(err, &refusal) || attempt == writeAttempts-1 {
			r.cfg.Logger.Debug("event not written", "event", e.Name, "namespace", e.Namespace, "reason", e.Reason, "error", err)
			return
		}
		timer := time.NewTimer(retryDelay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (r *Recorder) store(ctx context.Context, result *outcome) (*corev1.Event, error) {
	if result.patch != nil {
		stored, err := kind.Patch(ctx, r.cfg.Client, result.event.Namespace, result.event.Name, "", types.StrategicMergePatchType, result.patch, metav1.PatchOptions{})
		if !apierrors.IsNotFound(err) {
			return stored, err
		}
		// The event has expired meanwhile: it begins anew under the name that it got.
		result.patch = nil
	}
	result.event.ResourceVersion = ""
	return kind.Create(ctx, r.cfg.Client, result.event)
}

// Reference names an object the way events do.
func Reference(o runtime.Object) (*corev1.ObjectReference, error) {
	if ref, ok := o.(*corev1.ObjectReference); ok {
		return ref, nil
	}
	m, ok := o.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("refer to %T: not an API object", o)
	}
	gvk := o.GetObjectKind().GroupVersionKind()
	if gvk.Empty() {
		kinds, _, err := scheme.Scheme.ObjectKinds(o)
		if err != nil {
			return nil, fmt.Errorf("refer to %T: %w", o, err)
		}
		gvk = kinds[0]
	}
	return &corev1.ObjectReference{
		Kind:            gvk.Kind,
		APIVersion:      gvk.GroupVersion().String(),
		Namespace:       m.GetNamespace(),
		Name:            m.GetName(),
		UID:             m.GetUID(),
		ResourceVersion: m.GetResourceVersion(),
	}, nil
}
