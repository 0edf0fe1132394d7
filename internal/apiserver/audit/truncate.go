package audit

import (
	"encoding/json"
	"errors"
	"maps"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// TruncateOptions bound what a sink gets.
type TruncateOptions struct {
	Enabled                      bool
	MaxEventBytes, MaxBatchBytes int64
}

// truncating takes the bodies out of events that are too large, and divides batches that are.
type truncating struct {
	sink
	TruncateOptions
	trouble *trouble
}

var errTooLarge = errors.New("event is too large even after truncating")

func (t *truncating) process(events ...*auditv1.Event) error {
	var failed error
	var batch []*auditv1.Event
	var bytes int64
	flush := func() {
		if len(batch) > 0 {
			failed = errors.Join(failed, t.sink.process(batch...))
		}
		batch, bytes = nil, 0
	}
	for _, e := range events {
		cut, size, err := t.cut(e)
		if err != nil {
			_ = t.trouble.lost("truncate", err, e) // the request goes on, as upstream has it
			continue
		}
		if bytes+size > t.MaxBatchBytes {
			flush()
		}
		batch, bytes = append(batch, cut), bytes+size
	}
	flush()
	return failed
}

// hurry lets a sink that waits know that the end is near.
func (t *truncating) hurry() { hurry(t.sink) }

func hurry(s sink) {
	if c, ok := s.(interface{ hurry() }); ok {
		c.hurry()
	}
}

// cut returns an event that is small enough, and its size.
func (t *truncating) cut(e *auditv1.Event) (*auditv1.Event, int64, error) {
	size, err := sizeOf(e)
	if err != nil || size <= t.MaxEventBytes {
		return e, size, err
	}
	if e.Level == auditv1.LevelRequest || e.Level == auditv1.LevelRequestResponse {
		small := *e
		small.RequestObject, small.ResponseObject = nil, nil
		if small.Annotations = maps.Clone(e.Annotations); small.Annotations == nil {
			small.Annotations = map[string]string{}
		}
		small.Annotations["audit.k8s.io/truncated"] = "true"
		e = &small
		if size, err = sizeOf(e); err != nil {
			return nil, 0, err
		}
	}
	if size > t.MaxEventBytes {
		return nil, 0, errTooLarge
	}
	return e, size, nil
}

func sizeOf(e *auditv1.Event) (int64, error) {
	text, err := json.Marshal(e)
	return int64(len(text)), err
}
