package audit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Modes say when events are written.
const (
	Batch          = "batch"           // later, several at once
	Blocking       = "blocking"        // before the request goes on
	BlockingStrict = "blocking-strict" // likewise, and a request whose receipt can't be recorded is refused
)

// Options say what is recorded and where to.
type Options struct {
	PolicyFile string
	Log        LogOptions
	Webhook    WebhookOptions
}

// A SinkOptions is what sinks have in common.
type SinkOptions struct {
	Mode     string
	Batch    BatchOptions
	Truncate TruncateOptions
	Version  string // the only one is audit.k8s.io/v1
}

// LogOptions describe the log file.
type LogOptions struct {
	SinkOptions
	Path                            string // "-" is standard output
	MaxAgeDays, MaxBackups, MaxSize int    // megabytes
	Compress                        bool
	Format                          string // "json" or "legacy"
}

// WebhookOptions describe the webhook.
type WebhookOptions struct {
	SinkOptions
	ConfigFile     string // a kubeconfig
	InitialBackoff time.Duration
}

// DefaultOptions are upstream's.
func DefaultOptions() Options {
	truncate := TruncateOptions{MaxBatchBytes: 10 << 20, MaxEventBytes: 100 << 10}
	version := auditv1.SchemeGroupVersion.String()
	return Options{
		Log: LogOptions{
			MaxAgeDays: 366, MaxBackups: 100, MaxSize: 100, Format: "json",
			SinkOptions: SinkOptions{Mode: Blocking, Truncate: truncate, Version: version, Batch: BatchOptions{BufferSize: 10000, MaxSize: 1}},
		},
		Webhook: WebhookOptions{
			InitialBackoff: 10 * time.Second,
			SinkOptions: SinkOptions{Mode: Batch, Truncate: truncate, Version: version, Batch: BatchOptions{
				BufferSize: 10000, MaxSize: 400, MaxWait: 30 * time.Second, Throttle: true, QPS: 10, Burst: 15, parallel: maxParallel,
			}},
		},
	}
}

// A sink takes events. Those it is given are read-only and may be kept.
type sink interface {
	name() string
	// process writes events. An error says that they may be lost; the sink has told of it.
	process(events ...*auditv1.Event) error
	// close writes what is left.
	close() error
}

// An Auditor records requests. A nil one records nothing.
type Auditor struct {
	policy  *auditv1.Policy
	sinks   []sink
	metrics *Metrics
}

// Open starts recording. It returns nil if the options name no sink, or no policy: then nothing would be recorded.
func Open(o Options, m *Metrics, log *slog.Logger) (*Auditor, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.PolicyFile == "" {
		if o.Log.Path != "" || o.Webhook.ConfigFile != "" {
			log.Warn("nothing is recorded for the audit: there is no --audit-policy-file")
		}
		return nil, nil
	}
	policy, err := loadPolicy(o.PolicyFile, log)
	if err != nil {
		return nil, err
	}
	if o.Log.Path == "" && o.Webhook.ConfigFile == "" {
		log.Warn("nothing is recorded for the audit: there is neither --audit-log-path nor --audit-webhook-config-file")
		return nil, nil
	}
	a := &Auditor{policy: policy, metrics: m}
	trouble := &trouble{m, log}
	if o.Log.Path != "" {
		out, err := o.Log.open()
		if err != nil {
			return nil, err
		}
		a.sinks = append(a.sinks, o.Log.wrap(&logSink{out: out, legacy: o.Log.Format == "legacy", trouble: trouble}, trouble))
	}
	if o.Webhook.ConfigFile != "" {
		hook, err := newWebhook(o.Webhook, trouble)
		if err != nil {
			return nil, errors.Join(err, a.Close())
		}
		a.sinks = append(a.sinks, o.Webhook.wrap(hook, trouble))
	}
	return a, nil
}

// open opens the log file, which rotates.
func (o LogOptions) open() (io.WriteCloser, error) {
	if o.Path == "-" {
		return keepOpen{os.Stdout}, nil
	}
	f, err := os.OpenFile(o.Path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return &lumberjack.Logger{Filename: o.Path, MaxAge: o.MaxAgeDays, MaxBackups: o.MaxBackups, MaxSize: o.MaxSize, Compress: o.Compress}, nil
}

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// wrap puts a buffer and scissors before a sink, as the options want it.
func (o SinkOptions) wrap(s sink, t *trouble) sink {
	if o.Truncate.Enabled {
		s = &truncating{sink: s, TruncateOptions: o.Truncate, trouble: t}
	}
	switch o.Mode {
	case Batch:
		return newBatching(s, o.Batch, t)
	case Blocking:
		return lenient{s}
	}
	return s
}

// lenient lets requests go on whose events are lost.
type lenient struct{ sink }

func (l lenient) process(events ...*auditv1.Event) error {
	_ = l.sink.process(events...) // the sink has told of it
	return nil
}

func (o Options) validate() error {
	if o.Log.Path != "" {
		if err := o.Log.validate("log"); err != nil {
			return err
		}
		if o.Log.Format != "json" && o.Log.Format != "legacy" {
			return fmt.Errorf("invalid audit log format %s, allowed formats are %q", o.Log.Format, "legacy,json")
		}
		for name, n := range map[string]int{"maxage": o.Log.MaxAgeDays, "maxbackup": o.Log.MaxBackups, "maxsize": o.Log.MaxSize} {
			if n < 0 {
				return fmt.Errorf("--audit-log-%s %d can't be a negative number", name, n)
			}
		}
	}
	if o.Webhook.ConfigFile != "" {
		return o.Webhook.validate("webhook")
	}
	return nil
}

func (o SinkOptions) validate(name string) error {
	modes := []string{Batch, Blocking, BlockingStrict}
	b, t := o.Batch, o.Truncate
	switch {
	case !slices.Contains(modes, o.Mode):
		return fmt.Errorf("invalid audit %s mode %s, allowed modes are %q", name, o.Mode, strings.Join(modes, ","))
	case o.Version != auditv1.SchemeGroupVersion.String():
		return fmt.Errorf("invalid group version, allowed versions are %q", auditv1.SchemeGroupVersion.String())
	case o.Mode == Batch && b.BufferSize <= 0:
		return fmt.Errorf("invalid audit batch %s buffer size %v, must be a positive number", name, b.BufferSize)
	case o.Mode == Batch && b.MaxSize <= 0:
		return fmt.Errorf("invalid audit batch %s max batch size %v, must be a positive number", name, b.MaxSize)
	case o.Mode == Batch && b.Throttle && b.QPS <= 0:
		return fmt.Errorf("invalid audit batch %s throttle QPS %v, must be a positive number", name, b.QPS)
	case o.Mode == Batch && b.Throttle && b.Burst <= 0:
		return fmt.Errorf("invalid audit batch %s throttle burst %v, must be a positive number", name, b.Burst)
	case t.Enabled && t.MaxEventBytes <= 0:
		return fmt.Errorf("invalid audit truncate %s max event size %v, must be a positive number", name, t.MaxEventBytes)
	case t.Enabled && t.MaxBatchBytes < t.MaxEventBytes:
		return fmt.Errorf("invalid audit truncate %s max batch size %v, must be greater than max event size (%v)", name, t.MaxBatchBytes, t.MaxEventBytes)
	}
	return nil
}

// process gives an event to every sink. It returns false if a request must not go on without it.
func (a *Auditor) process(e *auditv1.Event) bool {
	a.metrics.events.Inc()
	ok := true
	for _, s := range a.sinks {
		ok = s.process(e) == nil && ok
	}
	return ok
}

// Close writes what is buffered. No record may be made after it.
func (a *Auditor) Close() error {
	if a == nil {
		return nil
	}
	var err error
	for _, s := range a.sinks {
		err = errors.Join(err, s.close())
	}
	return err
}

// trouble is where sinks tell of events that they lost.
type trouble struct {
	metrics *Metrics
	log     *slog.Logger
}

// maxLogged bounds what the server's own log tells of a lost event.
const maxLogged = 1 << 10

func (t *trouble) lost(sink string, err error, events ...*auditv1.Event) error {
	t.metrics.errors.WithLabelValues(sink).Add(float64(len(events)))
	lines := make([]string, len(events))
	for i, e := range events {
		lines[i] = line(e)
		lines[i] = lines[i][:min(len(lines[i]), maxLogged)]
	}
	t.log.Error("audit events may be lost", "sink", sink, "error", err, "events", lines)
	return err
}
