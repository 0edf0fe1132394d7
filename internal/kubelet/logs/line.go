package logs

import (
	"bytes"
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
	switch string(stream) {
	case "stdout":
	case "stderr":
		l.stderr = true
	default:
		return line{}, fmt.Errorf("%w: unknown stream %q", errMalformed, stream)
	}
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	if string(tag) == "P" {
		l.text = bytes.TrimSuffix(l.text, []byte{'\n'})
	}
	return l, nil
}
