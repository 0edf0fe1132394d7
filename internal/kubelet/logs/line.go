package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// line is one parsed line of a log file. text includes the newline of a full line.
type line struct {
	time   time.Time
	stamp  []byte
	stderr bool
	text   []byte
}

var errMalformed = errors.New("malformed log line")

// parse reads one line as it stands in the file, with its newline.
func parse(raw []byte) (line, error) {
	if bytes.HasPrefix(raw, []byte{'{'}) {
		return parseDocker(raw)
	}
	stamp, rest, ok := bytes.Cut(raw, []byte{' '})
	if !ok {
		return line{}, errMalformed
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return line{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	stream, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return line{}, errMalformed
	}
	tags, text, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return line{}, errMalformed
	}
	l := line{time: t, stamp: stamp, text: text}
	if l.stderr, err = isStderr(string(stream)); err != nil {
		return line{}, err
	}
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	if string(tag) == "P" {
		l.text = bytes.TrimSuffix(l.text, []byte{'\n'})
	}
	return l, nil
}

func isStderr(stream string) (bool, error) {
	if stream != "stdout" && stream != "stderr" {
		return false, fmt.Errorf("%w: unknown stream %q", errMalformed, stream)
	}
	return stream == "stderr", nil
}

// stampLayoutDocker has all digits of the nanoseconds, as the other lines have: Docker's leave out zeros at their end.
const stampLayoutDocker = "2006-01-02T15:04:05.000000000Z07:00"

// parseDocker reads a line of Docker's JSON file, to which its log is a link. A part of a long line has no newline in its text.
func parseDocker(raw []byte) (line, error) {
	var entry struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal(raw, &entry); err != nil {
		return line{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	stderr, err := isStderr(entry.Stream)
	return line{time: entry.Time, stamp: entry.Time.AppendFormat(nil, stampLayoutDocker), stderr: stderr, text: []byte(entry.Log)}, err
}
