package fairness

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/apiserver/request"
)

// Config says what there is to share.
type Config struct {
	// Seats are the server's. Required.
	Seats int
	// Objects tells how many objects a request for a list is about, and how long they are on average. Nil makes all lists one seat wide.
	Objects func(*request.Info) (count, bytes int64)
	Logger  *slog.Logger
}

// A Request is what its place depends on.
type Request struct {
	User  user.Info
	Info  *request.Info
	Query string
}

// A Controller admits requests. Make it with New; until Run has read the configuration, only the mandatory levels exist, and the
// one for everybody has all seats.
type Controller struct {
	cfg     Config
	began   time.Time
	current atomic.Pointer[[]*schema] // in the order of matching; the last one matches whatever is left

	reading, writing *tally
	watches          watches

	mu       sync.Mutex // guards what follows
	levels   map[string]*levelState
	fraction float64 // of what levels demand that each of them gets
	nominal  int     // the sum of all levels' shares
	writes   statusWrites

	changed chan struct{} // says that the configuration is to be read anew
}

// A schema is a FlowSchema in use.
type schema struct {
	object   *flowcontrolv1.FlowSchema
	level    *level
	stats    *stats
	queues   bool // the level has more than one queue
	maxSeats int  // of the level, for one request; 0 is no bound
	method   flowcontrolv1.FlowDistinguisherMethodType

	uid, levelUID []string // as header values
	backoff       *backoff
}

// New returns a controller with the mandatory levels.
func New(cfg Config) *Controller {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Controller{cfg: cfg, began: time.Now(), levels: map[string]*levelState{}, changed: make(chan struct{}, 1)}
	c.reading, c.writing = newTally("readOnly", 0), newTally("mutating", 0)
	c.digest(nil, nil)
	return c
}

// now is the time since the beginning, in nanoseconds.
func (c *Controller) now() int64 { return int64(time.Since(c.began)) }

// Admit finds a request its place. Unless it was rejected, its ticket must Leave at the end.
func (c *Controller) Admit(t *Ticket, r Request) Outcome {
	s := c.find(&r)
	t.c, t.schema, t.info, t.user = c, s, r.Info, r.User.GetName()
	t.work = c.estimate(&r, s)
	var hash uint64
	if s.queues {
		t.flow = s.distinguish(&r)
		hash = hashFlow(s.object.Name, t.flow)
	}
	t.arrivedAt = c.now()
	t.tally = c.tallyOf(r.Info.Verb)
	out := s.level.admit(t, hash)
	switch out {
	case Executing:
		t.tally.executes(1, t.arrivedAt)
	case Queued:
		t.tally.queued(1, t.arrivedAt)
	}
	return out
}

// RetryAfter counts a refusal and returns how many seconds the client shall wait.
func (t *Ticket) RetryAfter() int64 { return t.schema.backoff.refused(time.Now().Unix()) }

// find returns the first schema that matches, or else the last.
func (c *Controller) find(r *Request) *schema {
	schemas := *c.current.Load()
	for _, s := range schemas[:len(schemas)-1] {
		if matches(s.object, r) {
			return s
		}
	}
	return schemas[len(schemas)-1]
}

// distinguish returns what tells the request's flow from others of its schema.
func (s *schema) distinguish(r *Request) string {
	switch s.method {
	case flowcontrolv1.FlowDistinguisherMethodByUserType:
		return r.User.GetName()
	case flowcontrolv1.FlowDistinguisherMethodByNamespaceType:
		return r.Info.Namespace
	}
	return ""
}

func (c *Controller) tallyOf(verb string) *tally {
	switch verb {
	case "get", "list", "watch":
		return c.reading
	}
	return c.writing
}
