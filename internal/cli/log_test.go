package cli

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestWhatLibrariesSayIsTakenOneLevelLower(t *testing.T) {
	for _, test := range []struct {
		level   slog.Level
		message string
		want    string
	}{
		{slog.LevelError, "something failed", "level=WARN"},
		{slog.LevelWarn, "something is odd", "level=INFO"},
		{slog.LevelInfo, "something happened", ""},
		{slog.LevelError, "Error on socket receive", ""},
	} {
		var out bytes.Buffer
		slog.New(libraryHandler{slog.NewTextHandler(&out, nil)}).Log(t.Context(), test.level, test.message)
		if got := out.String(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s %q is logged as %q", test.level, test.message, got)
		}
	}
}
