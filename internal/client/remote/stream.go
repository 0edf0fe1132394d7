package remote

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"clipper.dev/clipper/internal/client"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
	// A stream that somebody waits on is opened anew after this time without news: its initial events then come up to a
	// revision that is as new as the server's.
	impatience = 3 * time.Second
	// maxFrame bounds one watch event, far above the largest object that the API stores.
	maxFrame = 64 << 20
)

var errBehind = errors.New("a reader waits for a newer revision")

// stream keeps a view up to date with watches.
type stream struct {
	client *Client
	view   *view
	gvr    schema.GroupVersionResource
	sel    client.Selection
	log    *slog.Logger

	resume string // the revision to continue from; empty is to begin with the objects that exist
}

// run watches until ctx ends.
func (s *stream) run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		got, err := s.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || errors.Is(err, errBehind) {
			s.resume = ""
		}
		if got {
			backoff = minBackoff
		}
		if err == nil || errors.Is(err, errBehind) {
			continue
		}
		s.log.Debug("watch ended, will reconnect", "err", err, "in", backoff)
		if sleep(ctx, backoff/2+rand.N(backoff)) != nil {
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func (s *stream) query() url.Values {
	q := url.Values{
		"watch":               {"true"},
		"allowWatchBookmarks": {"true"},
		"timeoutSeconds":      {strconv.Itoa(300 + rand.IntN(300))},
	}
	if s.sel.Labels != nil && !s.sel.Labels.Empty() {
		q.Set("labelSelector", s.sel.Labels.String())
	}
	switch {
	case s.sel.Name != "" && s.sel.Field != "":
		q.Set("fieldSelector", "metadata.name="+s.sel.Name+","+s.sel.Field+"="+s.sel.Value)
	case s.sel.Name != "":
		q.Set("fieldSelector", "metadata.name="+s.sel.Name)
	case s.sel.Field != "":
		q.Set("fieldSelector", s.sel.Field+"="+s.sel.Value)
	}
	if s.resume != "" {
		q.Set("resourceVersion", s.resume)
		return q
	}
	q.Set("sendInitialEvents", "true")
	q.Set("resourceVersionMatch", string(metav1.ResourceVersionMatchNotOlderThan))
	return q
}

// watch opens one stream and follows it to its end. got tells whether anything came.
func (s *stream) watch(ctx context.Context) (got bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := request{method: http.MethodGet, gvr: s.gvr, namespace: s.sel.Namespace}
	accept := jsonType
	if full := acceptFor(s.gvr); full != jsonType {
		accept = protobufType + ";stream=watch," + jsonType
	}
	resp, err := s.client.send(ctx, r.method, r.path(), s.query(), nil, "", accept)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return false, statusError(r, resp, data)
	}
	next, err := events(resp)
	if err != nil {
		return false, err
	}
	watchdog := s.guard(ctx, cancel)
	defer watchdog.stop()
	f := follower{stream: s}
	if s.resume == "" {
		f.fresh = map[string]client.Object{}
	}
	for {
		kind, data, contentType, err := next()
		if err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, errBehind) {
				return got, errBehind
			}
			if errors.Is(err, io.EOF) {
				return got, nil
			}
			return got, err
		}
		got = true
		if err := f.handle(watch.EventType(kind), data, contentType); err != nil {
			return got, err
		}
		watchdog.fed()
	}
}

// follower applies the events of one stream to the view.
type follower struct {
	*stream
	fresh map[string]client.Object // the initial events so far; nil once they are complete
}

func (f *follower) handle(kind watch.EventType, data []byte, contentType string) error {
	obj, err := decode(contentType, data)
	if err != nil {
		return fmt.Errorf("decode a watch event: %w", err)
	}
	if kind == watch.Error {
		return apierrors.FromObject(obj)
	}
	o, err := asObject(obj, nil)
	if err != nil {
		return err
	}
	revision := revisionOf(o)
	if kind == watch.Bookmark {
		return f.bookmark(o, revision)
	}
	o.SetManagedFields(nil) // nobody here reads them, and a write without them leaves the server's alone
	if f.sel.Trim != nil {
		f.sel.Trim(o)
	}
	if f.fresh != nil {
		f.initial(kind, o)
		return nil
	}
	switch kind {
	case watch.Added, watch.Modified:
		f.view.put(o, revision)
	case watch.Deleted:
		f.view.remove(o.GetNamespace(), o.GetName(), revision)
	default:
		return fmt.Errorf("unknown watch event %q", kind)
	}
	f.resume = o.GetResourceVersion()
	return nil
}

func (f *follower) initial(kind watch.EventType, o client.Object) {
	key := keyOf(o.GetNamespace(), o.GetName())
	if kind == watch.Deleted {
		delete(f.fresh, key)
		return
	}
	f.fresh[key] = o
}

func (f *follower) bookmark(o client.Object, revision int64) error {
	if f.fresh == nil {
		f.view.progress(revision)
		f.resume = o.GetResourceVersion()
		return nil
	}
	if o.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
		return nil
	}
	f.view.replace(f.fresh, revision)
	f.fresh = nil
	f.resume = o.GetResourceVersion()
	return nil
}

func revisionOf(o client.Object) int64 {
	n, _ := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	return n
}

// events returns a function that reads the next event of a watch response: its type, its object's bytes and their format.
func events(resp *http.Response) (func() (kind string, data []byte, contentType string, err error), error) {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return nil, fmt.Errorf("content type of the watch: %w", err)
	}
	if media == protobufType {
		return func() (string, []byte, string, error) {
			var ev metav1.WatchEvent
			frame, err := readFrame(resp.Body)
			if err == nil {
				err = ev.Unmarshal(frame)
			}
			return ev.Type, ev.Object.Raw, protobufType, err
		}, nil
	}
	decoder := json.NewDecoder(resp.Body)
	return func() (string, []byte, string, error) {
		var ev struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		err := decoder.Decode(&ev)
		return ev.Type, ev.Object, jsonType, err
	}, nil
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a watch event of %d bytes is beyond all bounds", n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}
