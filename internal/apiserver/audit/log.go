package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// A logSink writes a line for each event.
type logSink struct {
	out     io.WriteCloser
	legacy  bool
	trouble *trouble
	mu      sync.Mutex // a line is written in one piece
}

func (*logSink) name() string { return "log" }

func (s *logSink) process(events ...*auditv1.Event) error {
	var failed error
	for _, e := range events {
		text, err := s.format(e)
		if err == nil {
			err = s.write(text)
		}
		if err != nil {
			failed = s.trouble.lost(s.name(), err, e)
		}
	}
	return failed
}

func (s *logSink) format(e *auditv1.Event) ([]byte, error) {
	if s.legacy {
		return []byte(line(e) + "\n"), nil
	}
	text, err := json.Marshal(e)
	return append(text, '\n'), err
}

func (s *logSink) write(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.out.Write(text)
	return err
}

func (s *logSink) close() error { return s.out.Close() }

// line tells the most important of an event in upstream's old form.
func line(e *auditv1.Event) string {
	name, groups := "<none>", "<none>"
	if e.User.Username != "" {
		name = e.User.Username
		if len(e.User.Groups) > 0 {
			groups = quoted(e.User.Groups)
		}
	}
	as, asGroups := "<self>", "<lookup>"
	if u := e.ImpersonatedUser; u != nil {
		as = u.Username
		if u.Groups != nil {
			asGroups = quoted(u.Groups)
		}
	}
	namespace, response, ip := "<none>", "<deferred>", "<unknown>"
	if e.ObjectRef != nil && e.ObjectRef.Namespace != "" {
		namespace = e.ObjectRef.Namespace
	}
	if e.ResponseStatus != nil {
		response = strconv.Itoa(int(e.ResponseStatus.Code))
	}
	if len(e.SourceIPs) > 0 {
		ip = e.SourceIPs[0]
	}
	return fmt.Sprintf("%s AUDIT: id=%q stage=%q ip=%q method=%q user=%q groups=%q as=%q asgroups=%q user-agent=%q namespace=%q uri=%q response=\"%s\"",
		e.RequestReceivedTimestamp.Format(time.RFC3339Nano), e.AuditID, e.Stage, ip, e.Verb, name, groups, as, asGroups, e.UserAgent, namespace, e.RequestURI, response)
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strconv.Quote(s)
	}
	return strings.Join(out, ",")
}
