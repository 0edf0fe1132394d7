package cli

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"k8s.io/klog/v2"
)

// openLog returns a daemon's log, on standard error, and has the libraries write there too.
func openLog(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", level)
	}
	handler := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})
	library := slog.New(libraryHandler{handler}).With("component", "library")
	klog.SetSlogLogger(library)
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(library.Handler(), slog.LevelError).Writer())
	return slog.New(handler), nil
}

// clientLines are what libraries call errors though only a client has hung up.
var clientLines = map[string]bool{"Error on socket receive": true}

// libraryHandler takes what libraries say one level lower: what matters of their errors comes back to their callers, who report it.
type libraryHandler struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h libraryHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, lower(level))
}

// Handle implements slog.Handler.
func (h libraryHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lower(r.Level)
	if clientLines[r.Message] {
		r.Level = slog.LevelDebug
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h libraryHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return libraryHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h libraryHandler) WithGroup(name string) slog.Handler {
	return libraryHandler{h.Handler.WithGroup(name)}
}

func lower(l slog.Level) slog.Level { return l - (slog.LevelError - slog.LevelWarn) }
