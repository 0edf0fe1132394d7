package cluster

import (
	"path/filepath"

	"github.com/spf13/pflag"

	"clipper.dev/clipper/internal/apiserver/audit"
)

// addAuditFlags adds the flags of the audit, by upstream's names and defaults.
func addAuditFlags(f *pflag.FlagSet, o *audit.Options) {
	*o = audit.DefaultOptions()
	f.Var((*path)(&o.PolicyFile), "audit-policy-file", "audit policy: what is recorded")
	l, w := &o.Log, &o.Webhook
	f.Var((*path)(&l.Path), "audit-log-path", "audit log; '-' is standard output")
	f.IntVar(&l.MaxAgeDays, "audit-log-maxage", l.MaxAgeDays, "days that old audit logs are kept; 0 is for ever")
	f.IntVar(&l.MaxBackups, "audit-log-maxbackup", l.MaxBackups, "how many old audit logs are kept; 0 is all")
	f.IntVar(&l.MaxSize, "audit-log-maxsize", l.MaxSize, "megabytes at which the audit log begins anew")
	f.BoolVar(&l.Compress, "audit-log-compress", false, "compress old audit logs")
	f.StringVar(&l.Format, "audit-log-format", l.Format, "form of the audit log: json or legacy")
	addSinkFlags(f, "log", &l.SinkOptions)
	f.Var((*path)(&w.ConfigFile), "audit-webhook-config-file", "kubeconfig of the server that audit events are sent to")
	f.DurationVar(&w.InitialBackoff, "audit-webhook-initial-backoff", w.InitialBackoff, "wait before audit events that could not be sent are sent again")
	addSinkFlags(f, "webhook", &w.SinkOptions)
}

func addSinkFlags(f *pflag.FlagSet, name string, o *audit.SinkOptions) {
	p, b, t := "audit-"+name+"-", &o.Batch, &o.Truncate
	f.StringVar(&o.Mode, p+"mode", o.Mode, "when audit events are written: batch, blocking or blocking-strict")
	f.StringVar(&o.Version, p+"version", o.Version, "API version of audit events")
	f.IntVar(&b.BufferSize, p+"batch-buffer-size", b.BufferSize, "audit events that wait to be written, in batch mode")
	f.IntVar(&b.MaxSize, p+"batch-max-size", b.MaxSize, "audit events of a batch")
	f.DurationVar(&b.MaxWait, p+"batch-max-wait", b.MaxWait, "time after which a batch is written although it isn't full")
	f.BoolVar(&b.Throttle, p+"batch-throttle-enable", b.Throttle, "bound the batches of a second")
	f.Float32Var(&b.QPS, p+"batch-throttle-qps", b.QPS, "batches of a second, on average")
	f.IntVar(&b.Burst, p+"batch-throttle-burst", b.Burst, "batches that are sent at once after a pause")
	f.BoolVar(&t.Enabled, p+"truncate-enabled", false, "take the bodies out of audit events that are too large")
	f.Int64Var(&t.MaxBatchBytes, p+"truncate-max-batch-size", t.MaxBatchBytes, "bytes of a batch of audit events")
	f.Int64Var(&t.MaxEventBytes, p+"truncate-max-event-size", t.MaxEventBytes, "bytes of an audit event")
}

// A path is the value of a flag that names a file. It becomes absolute at once: the server runs elsewhere than who starts it.
type path string

// Set implements pflag.Value. "-" is no file.
func (p *path) Set(s string) (err error) {
	if s != "" && s != "-" {
		s, err = filepath.Abs(s)
	}
	*p = path(s)
	return err
}

// String implements pflag.Value.
func (p *path) String() string { return string(*p) }

// Type implements pflag.Value.
func (*path) Type() string { return "file" }
