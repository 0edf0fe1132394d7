package apiserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
	"clipper.dev/clipper/internal/store"
)

// bookmarkEvery is how often a watcher that wants bookmarks learns how far it has come; one more comes shortly before the end.
const bookmarkEvery = time.Minute

// serveWatch streams changes until the watch's time is over, the client goes away or the server stops.
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, v *version, c choice, o *metav1.ListOptions, info *request.Info) error {
	media, ok := negotiate.Output(r, negotiate.Streams)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Streams)
	}
	revision, invalid := parseVersion(o.ResourceVersion)
	if invalid != nil {
		return invalid
	}
	defer s.metrics.lasting(r, info)()
	ctx, cancel := s.watchContext(r.Context(), o.TimeoutSeconds)
	defer cancel()
	stream := &watchStream{server: s, v: v, media: media, tables: newTableStream(v, media, r), namespace: c.namespace, began: time.Now(), base: revision}
	stream.turn.Lock()
	if wantsWebSocket(r) {
		socket, err := openWatchSocket(w, r, media.Format, cancel)
		if err != nil {
			return errStreamed // the upgrade has been answered
		}
		defer socket.close()
		stream.to = socket
	} else {
		stream.to = beginBody(w, media, callOf(r.Context()))
		stream.gathers = gathererOf(w)
	}
	watch, err := s.openWatch(ctx, v, c, o, revision, stream.notify())
	if err != nil {
		// Once the request is understood, errors come as events, as upstream's do.
		return stream.fail(err)
	}
	defer watch.Stop()
	stream.bookmarks = o.AllowWatchBookmarks
	return stream.run(ctx, watch, o)
}

// watchContext ends with the request, the server or the watch's time.
func (s *Server) watchContext(parent context.Context, seconds *int64) (context.Context, context.CancelFunc) {
	timeout := time.Duration(float64(s.cfg.MinWatch) * (1 + rand.Float64()))
	if seconds != nil && *seconds > 0 {
		timeout = time.Duration(*seconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(parent, timeout)
	stop := context.AfterFunc(s.stop, cancel)
	return ctx, func() { stop(); cancel() }
}

// openWatch finds out where a watch begins.
func (s *Server) openWatch(ctx context.Context, v *version, c choice, o *metav1.ListOptions, revision int64, notify func(*store.Watch)) (*store.Watch, error) {
	wo := store.WatchOptions{Match: c.match(v), Whole: true, ProgressEvery: bookmarkEvery, Notify: notify}
	if v.row.Namespaced {
		wo.Namespace = c.namespace
	}
	if name, ok := c.fields.RequiresExactMatch("metadata.name"); ok {
		wo.Name = name
	}
	if index, value, ok := c.indexed(v); ok {
		wo.Index, wo.Value = index, value
	}
	initial := o.SendInitialEvents
	switch {
	case initial != nil && *initial:
		wo.Initial = true
		if err := s.freshEnough(ctx, o.ResourceVersion, revision); err != nil {
			return nil, err
		}
	case initial != nil && revision == 0:
		wo.FromNow = true
	case revision == 0:
		wo.Initial = true
		if err := s.freshEnough(ctx, o.ResourceVersion, revision); err != nil {
			return nil, err
		}
	default:
		wo.After = revision
	}
	return s.startWatch(ctx, v, wo)
}

// freshEnough makes a watch that begins with the state begin with one as fresh as a list's.
func (s *Server) freshEnough(ctx context.Context, text string, revision int64) error {
	if text == "" {
		_, err := s.cfg.Store.Sync(ctx)
		return err
	}
	return s.reach(ctx, revision)
}

func (s *Server) startWatch(ctx context.Context, v *version, wo store.WatchOptions) (*store.Watch, error) {
	watch, err := v.table.Watch(ctx, wo)
	if errors.Is(err, store.ErrFuture) {
		// The client saw a revision that this server has not reached yet.
		if err := s.reach(ctx, wo.After); err != nil {
			return nil, err
		}
		watch, err = v.table.Watch(ctx, wo)
	}
	var hidden *store.UnreadableError
	if errors.As(err, &hidden) && !errors.Is(err, store.ErrCompacted) {
		return nil, apierrors.NewInternalError(hidden)
	}
	if errors.Is(err, store.ErrCompacted) {
		return nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", wo.After, s.oldest(ctx)))
	}
	return watch, err
}

// oldest is the oldest revision that a watch can still begin after, for error texts.
func (s *Server) oldest(ctx context.Context) int64 {
	status, err := s.cfg.Store.Status(ctx)
	if err != nil {
		return s.cfg.Store.Revision()
	}
	return status.Compacted
}

// A frameSink takes a watch's frames to the client.
type frameSink interface {
	// put adds a frame; it may wait for send.
	put(frame []byte) error
	// send makes sure that what was put is on its way. An error means that the client has gone.
	send() error
}

// A watchStream is one watch being served.
type watchStream struct {
	server    *Server
	v         *version
	media     negotiate.Media
	to        frameSink
	tables    *tableStream // nil unless tables are sent
	bookmarks bool
	format    int           // the number of the form that frames are shared under
	namespace string        // "" is all
	began     time.Time     // when the watch was asked for
	base      int64         // where the watch began: the revision that the client named, or that of the initial state
	sent      int64         // the revision of the last bookmark or event
	events    *eventMetrics // nil before the first event

	// turn is held by who sends: the handler, or the connection's gatherer. The handler begins with it, and keeps it at the end.
	turn    sync.Mutex
	gathers gatherer      // nil if the connection has none
	left    []store.Event // what the gatherer took and leaves to the handler
	room    []store.Event // for events to come
}

// A watchBody sends frames as a response's body.
type watchBody struct {
	w       http.ResponseWriter
	flusher *http.ResponseController
	waiting bool // something was written since the last flush
}

// beginBody sends the headers.
func beginBody(w http.ResponseWriter, m negotiate.Media, c *call) *watchBody {
	h := w.Header()
	contentType := m.Format.ContentType()
	if m.Format != negotiate.JSON {
		contentType += ";stream=watch"
	}
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache, private")
	writeWarnings(h, c)
	w.WriteHeader(http.StatusOK)
	b := &watchBody{w: w, flusher: http.NewResponseController(w)}
	_ = b.flusher.Flush() // whether the client is still there is seen by the next write
	return b
}

func (b *watchBody) put(frame []byte) error {
	b.waiting = true
	_, err := b.w.Write(frame)
	return err
}

func (b *watchBody) send() error {
	if !b.waiting {
		return nil
	}
	b.waiting = false
	return b.flusher.Flush()
}

// run sends the initial state, then events as they come, until the watch's time is over or the client has gone.
func (s *watchStream) run(ctx context.Context, watch *store.Watch, o *metav1.ListOptions) error {
	if err := s.begin(watch, o); err != nil {
		return err
	}
	if err := s.to.send(); err != nil {
		return nil
	}
	callOf(ctx).ticket.Leave() // what follows lasts long and does little
	return s.follow(ctx, watch)
}

// begin puts the initial state, if the watch has one.
func (s *watchStream) begin(watch *store.Watch, o *metav1.ListOptions) error {
	entries, revision := watch.Initial()
	if entries != nil || s.base == 0 {
		s.base = revision
	}
	if entries == nil {
		return nil
	}
	initial := 0
	for e := range entries {
		frame, err := s.v.frameOf(e, s, "ADDED")
		if err != nil {
			return s.fail(err)
		}
		if err := s.put(frame); err != nil {
			return errStreamed
		}
		initial++
	}
	s.server.metrics.watchBegan(s.v, initial)
	s.sent = revision
	if o.SendInitialEvents == nil || !*o.SendInitialEvents || !s.bookmarks {
		return nil
	}
	if err := s.bookmark(revision, true); err != nil {
		return s.fail(err)
	}
	s.server.metrics.watchListed(s.v, s.namespace, time.Since(s.began))
	return nil
}

// follow sends events until the end.
func (s *watchStream) follow(ctx context.Context, watch *store.Watch) error {
	// The last bookmark comes before the end, so that the next watch begins where this one ended.
	next, cancel := beforeDeadline(ctx, 2*time.Second)
	defer cancel()
	var hidden *store.UnreadableError
	for {
		batch, upTo, err := s.next(next, watch)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && next.Err() != nil:
			next = ctx
			batch, upTo = nil, watch.Progress()
		case errors.Is(err, store.ErrCompacted), errors.Is(err, store.ErrSlow):
			s.server.metrics.watchCut(s.v)
			return s.fail(apierrors.NewResourceExpired("The resourceVersion for the provided watch is too old."))
		case errors.As(err, &hidden):
			return s.fail(apierrors.NewInternalError(hidden))
		case err != nil:
			return nil // the table is gone: the client comes again and learns what became of it
		}
		if err := s.send(batch, upTo); err != nil {
			return nil
		}
	}
}

// beforeDeadline is a context that ends a little before its parent does.
func beforeDeadline(ctx context.Context, early time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || time.Until(deadline) < 2*early {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline.Add(-early))
}

// send passes events on, or, when there are none and the client wants to know, how far the watch has come.
func (s *watchStream) send(batch []store.Event, upTo int64) error {
	for _, e := range batch {
		frame, err := s.v.eventFrame(e, s)
		if err != nil {
			return s.fail(err)
		}
		if err := s.put(frame); err != nil {
			return err
		}
		s.sent = e.Revision()
	}
	if len(batch) == 0 && s.bookmarks && s.tells(upTo) {
		if err := s.bookmark(upTo, false); err != nil {
			return s.fail(err)
		}
	}
	return s.to.send()
}

// tells is whether a bookmark at a revision would tell the client something. It may be told the same again, but not where it began.
func (s *watchStream) tells(revision int64) bool { return revision > s.base && revision >= s.sent }

// put sends an event and counts it.
func (s *watchStream) put(frame []byte) error {
	if err := s.to.put(frame); err != nil {
		return err
	}
	s.count(len(frame))
	return nil
}

// count notes that an event was sent.
func (s *watchStream) count(size int) {
	if s.events == nil {
		s.events = s.server.metrics.watchEvents(s.v)
	}
	s.events.sizes.Observe(float64(size))
	s.events.count.Inc()
}

// bookmark tells the client which revision it has reached.
func (s *watchStream) bookmark(revision int64, initialEnd bool) error {
	o := s.v.api.New()
	if s.v.row.Empty != nil {
		s.v.row.Empty(o)
	}
	o.SetResourceVersion(strconv.FormatInt(revision, 10))
	if initialEnd {
		annotations := o.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[metav1.InitialEventsAnnotationKey] = "true"
		o.SetAnnotations(annotations)
	}
	s.sent = revision
	frame, err := encodeEvent("BOOKMARK", o, s)
	if err != nil {
		return err
	}
	return s.put(frame)
}

// fail ends the stream with an ERROR event.
func (s *watchStream) fail(err error) error {
	status := statusOf(err)
	frame, encodeErr := encodeFrame("ERROR", &status, s.media)
	if encodeErr != nil {
		return encodeErr
	}
	if s.put(frame) == nil {
		_ = s.to.send() // nobody is left to be told
	}
	return errStreamed
}

// errStreamed says that the client has been told of an error in the stream, or that nobody is left to be told.
var errStreamed = errors.New("the error has been sent as an event")
