package store

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newZapLogger gives etcd a logger that speaks through slog from warn level up. etcd logs at fatal or panic level what
// it cannot survive (a failed log write, for one) and expects the process to end there. Instead onFatal is called and
// only the goroutine that logged ends.
func newZapLogger(out *slog.Logger, onFatal func(error)) *zap.Logger {
	end := endGoroutine{onFatal: onFatal}
	// etcd repeats some lines in a tight loop; three a second of each are enough.
	core := zapcore.NewSamplerWithOptions(slogCore{out: out}, time.Second, 3, 0)
	return zap.New(core, zap.WithFatalHook(end), zap.WithPanicHook(end))
}

// endGoroutine is what happens after a fatal log line.
type endGoroutine struct{ onFatal func(error) }

// OnWrite implements zapcore.CheckWriteHook.
func (h endGoroutine) OnWrite(ce *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := fmt.Errorf("etcd: %s", ce.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("etcd: %s: %w", ce.Message, cause)
		}
	}
	h.onFatal(err)
	runtime.Goexit()
}

// firstStartLines are what etcd logs when it first starts faster than it expects to. It tries again by itself.
var firstStartLines = map[string]bool{
	"Failed to detect schema version":  true,
	"failed to update storage version": true,
}

// slogCore is a zapcore.Core that writes to a slog.Logger.
type slogCore struct{ out *slog.Logger }

// Enabled implements zapcore.LevelEnabler.
func (c slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{out: c.out.With(attributes(fields)...)}
}

// Check implements zapcore.Core.
func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if firstStartLines[e.Message] {
		level = slog.LevelDebug
	} else if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.out.Log(context.Background(), level, e.Message, attributes(fields)...)
	return nil
}

// Sync implements zapcore.Core.
func (c slogCore) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	attrs := make([]any, 0, len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			attrs = append(attrs, slog.Any(f.Key, v))
		}
	}
	return attrs
}
