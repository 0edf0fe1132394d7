package logs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const sample = `2024-01-01T00:00:00.000000001Z stdout F one
2024-01-01T00:00:01.000000001Z stderr F two
2024-01-01T00:00:02.000000001Z stdout P thr
2024-01-01T00:00:02.000000002Z stdout F ee
torn lin
2024-01-01T00:00:03.000000001Z stdout F four
`

func write(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestRead(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2024, 1, 1, 0, 0, s, 0, time.UTC) }
	for _, tc := range []struct {
		name           string
		opts           Options
		stdout, stderr string
	}{
		{"everything is split into its streams", Options{}, "one\nthree\nfour\n", "two\n"},
		{"tail counts lines of the file", Options{Tail: ptr(int64(3))}, "ee\nfour\n", ""},
		{"tail zero is nothing", Options{Tail: ptr(int64(0))}, "", ""},
		{"tail beyond the beginning is everything", Options{Tail: ptr(int64(99))}, "one\nthree\nfour\n", "two\n"},
		{"since drops older lines", Options{Since: at(2)}, "three\nfour\n", ""},
		{"limit cuts within a line", Options{LimitBytes: ptr(int64(6))}, "on" + "e\n", "tw"},
		{"one stream only", Options{Stderr: true}, "", "two\n"},
		{"timestamps stand at the beginning of lines", Options{Timestamps: true, Since: at(2)},
			"2024-01-01T00:00:02.000000001Z three\n2024-01-01T00:00:03.000000001Z four\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "0.log")
			write(t, path, sample)
			var out, errs bytes.Buffer
			if err := Read(t.Context(), path, tc.opts, &out, &errs); err != nil {
				t.Fatal(err)
			}
			if out.String() != tc.stdout || errs.String() != tc.stderr {
				t.Errorf("stdout %q stderr %q, want %q and %q", out.String(), errs.String(), tc.stdout, tc.stderr)
			}
		})
	}
}

func TestADockerLogBehindALinkIsReadAndFollowed(t *testing.T) {
	target, path := filepath.Join(t.TempDir(), "c-json.log"), filepath.Join(t.TempDir(), "0.log")
	write(t, target, `{"log":"one \u003c\n","stream":"stdout","time":"2024-01-01T00:00:00.5Z"}
{"log":"two\n","stream":"stderr","time":"2024-01-01T00:00:01Z"}
{"log":"thr","stream":"stdout","time":"2024-01-01T00:00:02Z"}
{"log":"ee\n","stream":"stdout","time":"2024-01-01T00:00:02.1Z"}
{"log":"torn
`)
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if err := Read(t.Context(), path, Options{Timestamps: true}, &out, &errs); err != nil {
		t.Fatal(err)
	}
	wantOut := "2024-01-01T00:00:00.500000000Z one <\n2024-01-01T00:00:02.000000000Z three\n"
	if wantErr := "2024-01-01T00:00:01.000000000Z two\n"; out.String() != wantOut || errs.String() != wantErr {
		t.Errorf("stdout %q stderr %q, want %q and %q", out.String(), errs.String(), wantOut, wantErr)
	}
	lines, done, ended := make(feed), make(chan struct{}), make(chan error)
	go func() {
		ended <- Read(context.Background(), path, Options{Follow: true, Done: done, Stderr: true}, lines, lines)
	}()
	if got := <-lines; got != "two\n" {
		t.Errorf("got %q", got)
	}
	write(t, target, `{"log":"four\n","stream":"stderr","time":"2024-01-01T00:00:03Z"}`+"\n")
	if got := <-lines; got != "four\n" {
		t.Errorf("got %q", got)
	}
	close(done)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// feed writes lines to a channel.
type feed chan string

func (f feed) Write(p []byte) (int, error) { f <- string(p); return len(p), nil }

func TestFollowGoesOnAfterARotationAndEndsWithTheContainer(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	row := func(i int) string { return fmt.Sprintf("2024-01-01T00:00:00Z stdout F %d\n", i) }
	write(t, path, row(0))
	out, done, ended := make(feed), make(chan struct{}), make(chan error)
	go func() {
		ended <- Read(context.Background(), path, Options{Follow: true, Done: done}, out, out)
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-out; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	expect("0\n")
	write(t, path, "2024-01-01T00:00:00Z stdout F ")
	write(t, path, "1\n")
	expect("1\n")
	r := Rotator{MaxSize: 1, MaxFiles: 2, Now: time.Now, Reopen: func(context.Context, string) error {
		write(t, path, row(2))
		return nil
	}}
	if err := r.Rotate(t.Context(), "c", path); err != nil {
		t.Fatal(err)
	}
	expect("2\n")
	close(done)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestRotationKeepsTheNumberOfFilesBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	now := time.Unix(1_700_000_000, 0)
	r := Rotator{MaxSize: 10, MaxFiles: 3, Now: func() time.Time { now = now.Add(time.Second); return now },
		Reopen: func(context.Context, string) error { write(t, path, ""); return nil }}
	for range 6 {
		write(t, path, sample)
		if err := r.Rotate(t.Context(), "c", path); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(path + "*")
	if len(files) != 3 {
		t.Errorf("files = %v, want 3", files)
	}
	zipped, _ := filepath.Glob(path + ".*.gz")
	if len(zipped) != 1 {
		t.Errorf("compressed = %v, want 1", zipped)
	}
}
