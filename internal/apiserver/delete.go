package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

// A removal is what came of a delete.
type removal struct {
	object *document // as last stored
	gone   bool      // it left storage
	shown  bool      // the client is shown the object instead of a Status
}

// remove deletes an object, or marks it for deletion when finalizers or a grace period keep it for now.
func (s *Server) remove(ctx context.Context, t target, o *metav1.DeleteOptions) (out removal, err error) {
	warnOfOrphans(ctx, t.v.row, o)
	err = s.guarded(ctx, t, func(ctx context.Context, entry *store.Entry) error {
		if entry == nil {
			return apierrors.NewNotFound(t.v.gr(), t.name)
		}
		out, err = s.removeOnce(ctx, t, entry, o.DeepCopy())
		return err
	})
	return out, err
}

func (s *Server) removeOnce(ctx context.Context, t target, entry *store.Entry, o *metav1.DeleteOptions) (removal, error) {
	live, err := t.v.live(entry)
	if err != nil {
		return removal{}, err
	}
	if err := deletePreconditions(t, live, o.Preconditions); err != nil {
		return removal{}, err
	}
	if ready := t.v.row.ReadyToDelete; ready != nil && live.GetDeletionTimestamp() != nil && !ready(live) {
		return removal{object: documentOf(entry), shown: true}, s.still(ctx, t, entry)
	}
	dry := dryRun(o.DryRun)
	request := t.admission(ctx, admission.Delete, nil, live, o, dry)
	if err := s.mutate(ctx, request); err != nil {
		return removal{}, err
	}
	finishAdmission, err := s.validate(ctx, request)
	if err != nil {
		return removal{}, err
	}
	committed := false
	defer func() { finishAdmission(committed) }()
	out, err := s.markOrRemove(ctx, t, live, entry, o, dry)
	committed = err == nil && !dry
	return out, err
}

// markOrRemove decides what becomes of an object whose deletion is allowed.
func (s *Server) markOrRemove(ctx context.Context, t target, live api.Object, entry *store.Entry, o *metav1.DeleteOptions, dry bool) (removal, error) {
	if g := o.GracePeriodSeconds; g != nil && *g < 0 {
		o.GracePeriodSeconds = new(int64)
		*o.GracePeriodSeconds = 1
	}
	row := t.v.row
	obj := live.DeepCopyObject().(api.Object)
	if row.MarkDeleting != nil && live.GetDeletionTimestamp() == nil {
		doc, err := s.overwriteMarked(ctx, t, markFirst(row, obj, o), entry, dry)
		return removal{object: doc, shown: true}, err
	}
	graceful, pending := t.markGracefully(obj, o)
	if pending {
		return removal{object: documentOf(entry), shown: row.ReturnsDeleted}, s.still(ctx, t, entry)
	}
	finalizers, changed := deletionFinalizers(row, obj, o)
	if len(finalizers) == 0 && !graceful {
		doc, err := s.removeEntry(ctx, t, obj, entry, dry)
		return removal{object: doc, gone: err == nil, shown: row.ReturnsDeleted}, err
	}
	if changed {
		obj.SetFinalizers(finalizers)
	}
	if !graceful {
		markNow(obj)
	}
	doc, err := s.overwriteMarked(ctx, t, obj, entry, dry)
	if err != nil || len(finalizers) > 0 || !graceful || *o.GracePeriodSeconds > 0 {
		return removal{object: doc, shown: true}, err
	}
	// Who watches is told first that the object ends, and when it goes, it is as it was marked.
	if !dry {
		doc, err = s.removeMarked(ctx, t, obj, doc.version())
	}
	return removal{object: doc, gone: err == nil, shown: row.ReturnsDeleted}, err
}

// removeEntry removes the newest version of an object from storage; the document shows it as obj, as it was last.
func (s *Server) removeEntry(ctx context.Context, t target, obj api.Object, entry *store.Entry, dry bool) (*document, error) {
	if dry {
		return &document{obj: obj}, s.still(ctx, t, entry)
	}
	return s.removeVersion(ctx, t, obj, entry.Revision())
}

func (s *Server) removeVersion(ctx context.Context, t target, obj api.Object, version int64) (*document, error) {
	began := time.Now()
	revision, err := t.v.table.Delete(ctx, t.key(), version)
	s.metrics.storage(ctx, t.v, storedDelete, began, err)
	if err != nil {
		return nil, fmt.Errorf("delete %s %q: %w", t.v.row.Name, t.key(), err)
	}
	client.Note(ctx, revision)
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	if after := t.v.row.Hooks.AfterDelete; after != nil {
		after(ctx, s.env(), obj)
	}
	return &document{obj: obj}, nil
}

// removeMarked removes an object that was just marked, at a version. Who has seen the mark may change it before, or come first: then it is gone,
// as was asked for.
func (s *Server) removeMarked(ctx context.Context, t target, obj api.Object, version int64) (*document, error) {
	for {
		doc, err := s.removeVersion(ctx, t, obj, version)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return doc, err
		}
		if _, err := s.cfg.Store.Sync(ctx); err != nil {
			return nil, err
		}
		e, hidden := t.v.table.Get(t.key())
		if hidden != nil {
			return nil, hiddenObject(hidden)
		}
		if e == nil || e.Record().UID != obj.GetUID() {
			return &document{obj: obj}, nil
		}
		version = e.Revision()
	}
}

// overwriteMarked stores an object that is marked for deletion.
func (s *Server) overwriteMarked(ctx context.Context, t target, obj api.Object, entry *store.Entry, dry bool) (*document, error) {
	if dry {
		return &document{obj: obj}, s.still(ctx, t, entry)
	}
	draft, err := t.v.kind.Encode(obj)
	if err != nil {
		return nil, err
	}
	if draft.Same(entry.Raw(), entry.Revision()) {
		return documentOf(entry), s.still(ctx, t, entry)
	}
	t.v.kind.Remember(draft)
	began := time.Now()
	revision, err := t.v.table.Update(ctx, entry.Key(), draft.Value, entry.Revision(), store.WriteOptions{TTL: s.ttlOf(t.v.row, obj)})
	s.metrics.storage(ctx, t.v, storedUpdate, began, err)
	if err != nil {
		return nil, fmt.Errorf("mark %s %q for deletion: %w", t.v.row.Name, entry.Key(), err)
	}
	client.Note(ctx, revision)
	return written(obj, draft, revision), nil
}

// deletePreconditions refuses to delete another object than the one meant, in the words that upstream has for deletes.
func deletePreconditions(t target, live api.Object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	if t.v.row.MarkDeleting != nil {
		return stepPreconditions(t, live, p)
	}
	kind := schema.GroupResource{Group: t.v.gk().Group, Resource: t.v.row.Kind}
	if p.UID != nil && *p.UID != live.GetUID() {
		return apierrors.NewConflict(kind, live.GetName(), fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). "+
			"The object might have been deleted and then recreated", *p.UID, live.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != live.GetResourceVersion() {
		return apierrors.NewConflict(kind, live.GetName(), fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). "+
			"The object might have been modified", *p.ResourceVersion, live.GetResourceVersion()))
	}
	return nil
}

// stepPreconditions is deletePreconditions for kinds whose objects end in two steps.
func stepPreconditions(t target, live api.Object, p *metav1.Preconditions) error {
	switch {
	case p.UID != nil && *p.UID != live.GetUID():
		return apierrors.NewConflict(t.v.gr(), t.name, otherUID(*p.UID, live))
	case p.ResourceVersion != nil && *p.ResourceVersion != live.GetResourceVersion():
		return apierrors.NewConflict(t.v.gr(), t.name, otherVersion(*p.ResourceVersion, live))
	}
	return nil
}

// markGracefully gives an object of a kind with graceful deletion its deadline, or shortens it. pending means that a
// deadline stands already and nothing is to be done.
func (t target) markGracefully(obj api.Object, o *metav1.DeleteOptions) (graceful, pending bool) {
	gracefully := t.v.row.DeleteGracefully
	if gracefully == nil {
		return false, false
	}
	if obj.GetDeletionTimestamp() != nil {
		return shortenGrace(obj, o)
	}
	if !gracefully(obj, o) || o.GracePeriodSeconds == nil {
		return false, false
	}
	deadline := metav1.NewTime(time.Now().Add(time.Duration(*o.GracePeriodSeconds) * time.Second))
	obj.SetDeletionTimestamp(&deadline)
	obj.SetDeletionGracePeriodSeconds(o.GracePeriodSeconds)
	if g := obj.GetGeneration(); g > 0 {
		obj.SetGeneration(g + 1)
	}
	return true, false
}

func shortenGrace(obj api.Object, o *metav1.DeleteOptions) (graceful, pending bool) {
	have := obj.GetDeletionGracePeriodSeconds()
	if have == nil || *have == 0 {
		return false, false
	}
	if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds >= *have {
		return false, true
	}
	period := *o.GracePeriodSeconds
	deadline := metav1.NewTime(obj.GetDeletionTimestamp().Add(time.Duration(period-*have) * time.Second))
	if now := metav1.Now(); deadline.Before(&now) {
		deadline = now
		if period != 0 {
			period = 1 // still graceful, as short as possible
		}
	}
	obj.SetDeletionTimestamp(&deadline)
	obj.SetDeletionGracePeriodSeconds(&period)
	return true, false
}

// markNow marks an object that stays only for its finalizers.
func markNow(obj api.Object) {
	first := obj.GetDeletionTimestamp() == nil
	if g := obj.GetGeneration(); first && g > 0 {
		obj.SetGeneration(g + 1)
	}
	if now := metav1.Now(); first || now.Before(obj.GetDeletionTimestamp()) {
		obj.SetDeletionTimestamp(&now)
	}
	obj.SetDeletionGracePeriodSeconds(new(int64))
}

// markFirst takes the first of the two steps in which some kinds' objects end.
func markFirst(row *api.Resource, obj api.Object, o *metav1.DeleteOptions) api.Object {
	now := metav1.Now()
	obj.SetDeletionTimestamp(&now)
	row.MarkDeleting(obj)
	if row.MarkCollects {
		if finalizers, changed := deletionFinalizers(row, obj, o); changed {
			obj.SetFinalizers(finalizers)
		}
	}
	return obj
}

func warnOfOrphans(ctx context.Context, row *api.Resource, o *metav1.DeleteOptions) {
	if row.OrphanWarning != "" && o.PropagationPolicy == nil && o.OrphanDependents == nil {
		callOf(ctx).warn(row.OrphanWarning)
	}
}

// deletionFinalizers returns the finalizers that the garbage collector needs for the propagation asked for.
func deletionFinalizers(row *api.Resource, obj api.Object, o *metav1.DeleteOptions) (finalizers []string, changed bool) {
	have := obj.GetFinalizers()
	for _, f := range have {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			finalizers = append(finalizers, f)
		}
	}
	switch propagation(row, have, o) {
	case metav1.DeletePropagationOrphan:
		finalizers = append(finalizers, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		finalizers = append(finalizers, metav1.FinalizerDeleteDependents)
	}
	a, b := slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(finalizers))
	if slices.Equal(a, b) {
		return have, false
	}
	return finalizers, true
}

// propagation decides what happens to dependents: as the options say, else as an earlier request's finalizer says, else as the kind does.
func propagation(row *api.Resource, have []string, o *metav1.DeleteOptions) metav1.DeletionPropagation {
	if row.Uncollected {
		return metav1.DeletePropagationBackground
	}
	if o.OrphanDependents != nil {
		if *o.OrphanDependents {
			return metav1.DeletePropagationOrphan
		}
		return metav1.DeletePropagationBackground
	}
	if o.PropagationPolicy != nil {
		return *o.PropagationPolicy
	}
	if slices.Contains(have, metav1.FinalizerOrphanDependents) {
		return metav1.DeletePropagationOrphan
	}
	if slices.Contains(have, metav1.FinalizerDeleteDependents) {
		return metav1.DeletePropagationForeground
	}
	return row.DefaultPropagation
}

// deletedStatus is the answer to a delete that shows no object.
func deletedStatus(t target, uid types.UID) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusSuccess,
		Details:  &metav1.StatusDetails{Name: t.name, Group: t.v.row.Group, Kind: t.v.row.Name, UID: uid},
	}
}
