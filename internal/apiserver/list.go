package apiserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/store"
)

// A page is what a list found.
type page struct {
	entries []*store.Entry
	meta    metav1.ListMeta

	// The items as another version, where that is made of all at once.
	converting sync.Once
	converted  map[*store.Entry]api.Object
	convertErr error
}

// list reads the chosen objects as the options say.
func (s *Server) list(ctx context.Context, v *version, c choice, o *metav1.ListOptions) (*page, error) {
	prefix := c.prefix(v)
	at, err := s.listState(ctx, v, c, o)
	if err != nil {
		return nil, err
	}
	if hidden := c.hidden(v, at, prefix); hidden != nil {
		return nil, apierrors.NewInternalError(hidden)
	}
	p := &page{meta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(at.revision, 10)}}
	if key, ok := c.name(v); ok && at.after == "" {
		if e, ok := at.snapshot.Get(key); ok && c.matches(e.Record()) {
			p.entries = append(p.entries, e)
		}
		s.metrics.reads.listed(v.gr(), "", len(p.entries), len(p.entries))
		return p, nil
	}
	if index, value, ok := c.indexed(v); ok && at.limit == 0 && at.after == "" {
		looked := 0
		for e := range at.snapshot.ByIndex(index, value) {
			looked++
			if (c.namespace == "" || e.Record().Namespace == c.namespace) && c.matches(e.Record()) {
				p.entries = append(p.entries, e)
			}
		}
		s.metrics.reads.listed(v.gr(), index, looked, len(p.entries))
		return p, nil
	}
	looked := p.collect(at, c, prefix)
	s.metrics.reads.listed(v.gr(), "", looked, len(p.entries))
	return p, nil
}

// listState says which state a list reads, and where in it.
type listState struct {
	snapshot store.Snapshot
	revision int64
	after    string
	limit    int64
}

// collect walks the keys, up to the limit, and returns how many it has looked at.
func (p *page) collect(at listState, c choice, prefix string) (looked int) {
	all := c.everything()
	if all && at.limit == 0 && at.after == "" {
		p.entries = make([]*store.Entry, 0, at.snapshot.Count(prefix))
	}
	full := func() bool { return at.limit > 0 && int64(len(p.entries)) >= at.limit }
	visit := func(e *store.Entry) bool {
		looked++
		if all || c.fields.Empty() || c.matches(e.Record()) {
			p.entries = append(p.entries, e)
		}
		return !full()
	}
	if c.labels.Empty() {
		at.snapshot.Ascend(prefix, at.after, visit)
	} else {
		at.snapshot.AscendLabelled(prefix, at.after, func(l map[string]string) bool { return c.labels.Matches(labels.Set(l)) }, visit)
	}
	if !full() {
		return looked
	}
	// A page that is full goes on if there are objects after it, chosen or not: as with upstream, nobody looks for the next one that is.
	last := p.entries[len(p.entries)-1].Key()
	rest := int64(at.snapshot.CountAfter(prefix, last))
	if rest == 0 {
		return looked
	}
	p.meta.Continue = encodeContinue(last, prefix, at.revision)
	if all {
		p.meta.RemainingItemCount = &rest
	}
	return looked
}

// listState finds the state that resourceVersion, resourceVersionMatch, limit and continue ask for together.
func (s *Server) listState(ctx context.Context, v *version, c choice, o *metav1.ListOptions) (listState, error) {
	prefix := c.prefix(v)
	at := listState{limit: o.Limit}
	if o.Continue != "" {
		after, revision, err := decodeContinue(o.Continue, prefix)
		if err != nil {
			return at, err
		}
		if o.ResourceVersion != "" && o.ResourceVersion != "0" {
			return at, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		at.after = after
		if o.ResourceVersion == "0" && v.row.TTL == nil {
			at.limit = 0
		}
		if revision < 0 {
			return s.newest(ctx, v, at)
		}
		return s.exactly(ctx, v, at, revision, prefix)
	}
	revision, err := parseRevision(o.ResourceVersion)
	if err != nil {
		return at, err
	}
	exact := o.ResourceVersionMatch == metav1.ResourceVersionMatchExact
	_, single := c.name(v)
	legacyExact := o.ResourceVersionMatch == "" && o.Limit > 0 && revision > 0 && !single
	switch {
	case exact || legacyExact:
		return s.exactly(ctx, v, at, revision, prefix)
	case o.ResourceVersion == "":
		return s.newest(ctx, v, at)
	case revision == 0:
		if v.row.TTL == nil {
			at.limit = 0 // as upstream's cache, which has no events: any state will do, all of it
		}
		return s.cached(v, at), nil
	}
	if err := s.reachList(ctx, v, revision); err != nil {
		return at, err
	}
	return s.cached(v, at), nil
}

// reachList is reach for a list. One of a kind that upstream has no cache of is refused at once, and its client isn't told when to come back.
func (s *Server) reachList(ctx context.Context, v *version, revision int64) error {
	if v.row.TTL == nil {
		return s.reach(ctx, revision)
	}
	now, err := s.cfg.Store.Sync(ctx)
	if err != nil {
		return fmt.Errorf("reach the newest revision: %w", err)
	}
	if now < revision {
		return tooLarge(revision, now, 0)
	}
	return nil
}

func (s *Server) cached(v *version, at listState) listState {
	floor := s.cfg.Store.Revision()
	at.snapshot = v.table.Snapshot()
	at.revision = max(floor, at.snapshot.Revision())
	return at
}

func (s *Server) newest(ctx context.Context, v *version, at listState) (listState, error) {
	began := time.Now()
	_, err := s.cfg.Store.Sync(ctx)
	s.metrics.reads.freshened(v.gr(), time.Since(began), err)
	if err != nil {
		return at, fmt.Errorf("reach the newest revision: %w", err)
	}
	return s.cached(v, at), nil
}

func (s *Server) exactly(ctx context.Context, v *version, at listState, revision int64, prefix string) (listState, error) {
	if err := s.reachList(ctx, v, revision); err != nil {
		return at, err
	}
	snapshot, err := v.table.SnapshotAt(ctx, revision)
	switch {
	case errors.Is(err, store.ErrCompacted):
		return at, expiredList(at.after, prefix)
	case errors.Is(err, store.ErrFuture):
		return at, tooLarge(revision, s.cfg.Store.Revision(), 1)
	case err != nil:
		return at, err
	}
	at.snapshot, at.revision = snapshot, revision
	return at, nil
}

// reachTimeout is how long a read waits for a revision that has not come yet.
const reachTimeout = 3 * time.Second

// reach waits until the cache is not older than a revision.
func (s *Server) reach(ctx context.Context, revision int64) error {
	if s.cfg.Store.Revision() >= revision {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := s.cfg.Store.WaitFor(wait, revision); err != nil {
		if ctx.Err() == nil && wait.Err() != nil {
			return tooLarge(revision, s.cfg.Store.Revision(), 1)
		}
		return err
	}
	return nil
}

// tooLarge is upstream's answer to a revision that has not come, and may have after some seconds.
func tooLarge(want, have int64, seconds int) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", want, have), seconds)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

// expiredList is upstream's answer to a list of a state that is gone. In the middle of a list in pages it comes with a
// token that goes on in the newest state.
func expiredList(after, prefix string) error {
	if after == "" {
		return apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	}
	err := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list.")
	err.ErrStatus.ListMeta.Continue = encodeContinue(after, prefix, -1)
	return err
}

// parseRevision reads a resourceVersion; "" is 0.
func parseRevision(text string) (int64, error) {
	revision, err := parseVersion(text)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	return revision, nil
}

// unreadable is the answer to a version that is none. With upstream it's the server's error for what its cache serves: all but events.
func unreadable(row *api.Resource, invalid *field.Error) error {
	if row.TTL != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", invalid))
	}
	return invalid
}

func parseVersion(text string) (int64, *field.Error) {
	if text == "" {
		return 0, nil
	}
	revision, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, field.Invalid(field.NewPath("resourceVersion"), text, err.Error())
	}
	return int64(revision), nil
}

// get reads one object: as fresh as a linearizable read without a resourceVersion, else not older than it.
func (s *Server) get(ctx context.Context, t target, resourceVersion string) (*store.Entry, error) {
	revision, invalid := parseVersion(resourceVersion)
	if invalid != nil {
		return nil, unreadable(t.v.row, invalid)
	}
	switch {
	case resourceVersion == "":
		if _, err := s.cfg.Store.Sync(ctx); err != nil {
			return nil, fmt.Errorf("reach the newest revision: %w", err)
		}
	case revision > 0:
		if err := s.reach(ctx, revision); err != nil {
			return nil, err
		}
	}
	e, hidden := t.v.table.Get(t.key())
	if hidden != nil {
		return nil, hiddenObject(hidden)
	}
	if e == nil {
		return nil, apierrors.NewNotFound(t.v.gr(), t.name)
	}
	return e, nil
}
