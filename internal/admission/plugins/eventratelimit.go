package plugins

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/lru"
	"sigs.k8s.io/yaml"

	"clipper.dev/clipper/internal/admission"
)

// EventRateLimit bounds how many Events are written, by server, namespace, user or what they are about. It is off by default.
type EventRateLimit struct {
	limits []*eventLimit
	now    func() time.Time
}

var _ admission.Validator = (*EventRateLimit)(nil)

// eventLimit is one of the configuration's limits: a bucket of tokens for each key.
type eventLimit struct {
	Type      string `json:"type"`
	QPS       int32  `json:"qps"`
	Burst     int32  `json:"burst"`
	CacheSize int32  `json:"cacheSize"`

	mu      sync.Mutex // between looking for a bucket and making it
	buckets *lru.Cache // key → *rate.Limiter
}

// eventKeys tell, by a limit's type, which Events share a bucket.
var eventKeys = map[string]func(*admission.Request) string{
	"Server":    func(*admission.Request) string { return "" },
	"Namespace": func(r *admission.Request) string { return r.Namespace },
	"User":      func(r *admission.Request) string { return r.User.Name },
	"SourceAndObject": func(r *admission.Request) string {
		e, ok := r.Object.(*corev1.Event)
		if !ok {
			return ""
		}
		o := e.InvolvedObject
		return strings.Join([]string{e.Source.Component, e.Source.Host, o.Kind, o.Namespace, o.Name, string(o.UID), o.APIVersion}, "")
	},
}

const (
	eventRateLimitVersion = "eventratelimit.admission.k8s.io/v1alpha1"
	defaultEventBuckets   = 4096
)

// newEventRateLimit reads upstream's configuration of the plugin.
func newEventRateLimit(config []byte, now func() time.Time) (*EventRateLimit, error) {
	var c struct {
		APIVersion string        `json:"apiVersion"`
		Kind       string        `json:"kind"`
		Limits     []*eventLimit `json:"limits"`
	}
	if err := yaml.UnmarshalStrict(config, &c); err != nil {
		return nil, fmt.Errorf("read the configuration of EventRateLimit: %w", err)
	}
	if c.APIVersion != eventRateLimitVersion || c.Kind != "Configuration" {
		return nil, fmt.Errorf("the configuration of EventRateLimit is %s %s, not %s Configuration", c.APIVersion, c.Kind, eventRateLimitVersion)
	}
	if errs := validateEventLimits(c.Limits); len(errs) > 0 {
		return nil, fmt.Errorf("the configuration of EventRateLimit is invalid: %w", errs.ToAggregate())
	}
	for _, l := range c.Limits {
		if l.CacheSize == 0 || l.Type == "Server" {
			l.CacheSize = defaultEventBuckets
		}
		l.buckets = lru.New(int(l.CacheSize))
	}
	return &EventRateLimit{limits: c.Limits, now: now}, nil
}

func validateEventLimits(limits []*eventLimit) (errs field.ErrorList) {
	at := field.NewPath("limits")
	if len(limits) == 0 {
		errs = append(errs, field.Invalid(at, limits, "must not be empty"))
	}
	for i, l := range limits {
		at := at.Index(i)
		if eventKeys[l.Type] == nil {
			errs = append(errs, field.NotSupported(at.Child("type"), l.Type, []string{"Namespace", "Server", "SourceAndObject", "User"}))
		}
		if l.Burst <= 0 {
			errs = append(errs, field.Invalid(at.Child("burst"), l.Burst, "must be positive"))
		}
		if l.QPS <= 0 {
			errs = append(errs, field.Invalid(at.Child("qps"), l.QPS, "must be positive"))
		}
		if l.CacheSize < 0 && l.Type != "Server" {
			errs = append(errs, field.Invalid(at.Child("cacheSize"), l.CacheSize, "must not be negative"))
		}
	}
	return errs
}

// Name implements admission.Plugin.
func (*EventRateLimit) Name() string { return "EventRateLimit" }

// Validate implements admission.Validator.
func (p *EventRateLimit) Validate(_ context.Context, r *admission.Request) error {
	if r.Operation != admission.Create && r.Operation != admission.Update || r.Kind.GroupKind() != corev1.SchemeGroupVersion.WithKind("Event").GroupKind() || r.DryRun {
		return nil
	}
	var errs []error
	for _, l := range p.limits {
		if key := eventKeys[l.Type](r); !l.bucket(key).AllowN(p.now(), 1) {
			errs = append(errs, fmt.Errorf("limit reached on type %v for key %v", l.Type, key))
		}
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		return apierrors.NewTooManyRequestsError(err.Error())
	}
	return nil
}

func (l *eventLimit) bucket(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.buckets.Get(key); ok {
		return b.(*rate.Limiter)
	}
	b := rate.NewLimiter(rate.Limit(l.QPS), int(l.Burst))
	l.buckets.Add(key, b)
	return b
}
