package apiserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

// modifiedText is upstream's wording of a lost race.
const modifiedText = "the object has been modified; please apply your changes to the latest version and try again"

// A change is one guarded update: it is computed from the live object and computed anew when that has changed meanwhile.
type change struct {
	// compute returns the object to be written, a defaulted hub object that the engine may keep. live is read-only, nil if there is none.
	compute func(live api.Object) (api.Object, error)
	// uid, if set, is the object that is meant, and version, if set, the version of it.
	uid     types.UID
	version string
	// manager is recorded for what changes; compute has done that itself if it is empty.
	manager string
	// allowCreate makes an absent object be created.
	allowCreate bool
	// options go to admission; dryRun stops before storage.
	options runtime.Object
	dryRun  bool
	// unguarded skips admission: the engine's own updates of a parent below a subresource that admission has judged.
	unguarded bool
}

// rules are what an update of an object or of one of its subresources may do.
type rules struct {
	prepare  func(new, old api.Object)
	validate func(new, old api.Object) field.ErrorList
	warnings func(new, old api.Object) []string
}

func (t target) rules() rules {
	row := t.v.row
	if t.sub == "" || t.sub == "scale" {
		return rules{row.PrepareUpdate, row.ValidateUpdate, row.Warnings}
	}
	if t.sub == "status" && row.Status != nil {
		return rules{row.Status.PrepareUpdate, row.Status.ValidateUpdate, row.Status.Warnings}
	}
	if sub := t.subresource(); sub != nil {
		return rules{prepare: sub.PrepareUpdate, validate: sub.ValidateUpdate}
	}
	return rules{}
}

func (t target) subresource() *api.Subresource {
	for i := range t.v.row.Subresources {
		if t.v.row.Subresources[i].Name == t.sub {
			return &t.v.row.Subresources[i]
		}
	}
	return nil
}

// update performs a change, as often as it takes for the live object to hold still.
func (s *Server) update(ctx context.Context, t target, ch change) (doc *document, created bool, err error) {
	err = s.guarded(ctx, t, func(ctx context.Context, entry *store.Entry) error {
		doc, created, err = s.updateOnce(ctx, t, entry, ch)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return doc, created, nil
}

// guarded tries a write that is guarded by the revision of the live entry, nil if there is none, until it wins. It
// begins with what the cache has; a refusal counts only if the cache was up to date.
func (s *Server) guarded(ctx context.Context, t target, try func(context.Context, *store.Entry) error) error {
	key := t.key()
	fresh, queued := false, false
	for {
		entry, hidden := t.v.table.Get(key)
		err := error(nil)
		if hidden != nil {
			err = hiddenObject(hidden)
		} else if err = try(ctx, entry); err == nil {
			return nil
		}
		lost := errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrExists)
		if fresh && !lost {
			return err
		}
		if lost && !queued {
			inside, leave, err := s.turns.enter(ctx, t.v.row.Prefix, key)
			if err != nil {
				return err
			}
			defer leave()
			ctx, queued = inside, true
		}
		if _, err := s.cfg.Store.Sync(ctx); err != nil {
			return err
		}
		if now, _ := t.v.table.Get(key); !lost && sameVersion(entry, now) {
			return err
		}
		fresh = !lost
	}
}

func sameVersion(a, b *store.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Revision() == b.Revision()
}

func (s *Server) updateOnce(ctx context.Context, t target, entry *store.Entry, ch change) (*document, bool, error) {
	if entry == nil {
		if !ch.allowCreate {
			return nil, false, apierrors.NewNotFound(t.v.gr(), t.name)
		}
		doc, err := s.createByUpdate(ctx, t, ch)
		return doc, err == nil, err
	}
	live, err := t.v.live(entry)
	if err != nil {
		return nil, false, err
	}
	if err := checkPreconditions(t, ch, live); err != nil {
		return nil, false, err
	}
	obj, err := ch.compute(live)
	if err != nil {
		return nil, false, err
	}
	if err := s.mutateUpdate(ctx, t, obj, live, ch); err != nil {
		return nil, false, err
	}
	if err := checkVersion(t, obj, live); err != nil {
		return nil, false, err
	}
	doc, err := s.replace(ctx, t, obj, live, entry, ch)
	return doc, false, err
}

// mutateUpdate tracks the fields and runs the mutating plugins.
func (s *Server) mutateUpdate(ctx context.Context, t target, obj, live api.Object, ch change) error {
	if ch.manager != "" {
		s.track(t, live, obj, ch.manager)
	}
	if ch.unguarded {
		return nil
	}
	if err := s.mutate(ctx, t.admission(ctx, admission.Update, obj, live, ch.options, ch.dryRun)); err != nil {
		return err
	}
	dedupOwners(callOf(ctx), obj, true)
	return nil
}

// checkVersion refuses a change of another version of the object than the live one.
func checkVersion(t target, obj, live api.Object) error {
	switch obj.GetResourceVersion() {
	case live.GetResourceVersion():
		return nil
	case "", "0":
		if t.v.row.AllowUnconditionalUpdate {
			return nil
		}
		return apierrors.NewInvalid(schema.GroupKind{Group: t.v.row.Group, Kind: t.v.row.Name}, t.name, field.ErrorList{
			field.Invalid(metadataPath.Child("resourceVersion"), 0, "must be specified for an update"),
		})
	}
	if err := checkVersionForm(obj); err != nil {
		return err
	}
	return apierrors.NewConflict(t.v.gr(), t.name, errors.New(modifiedText))
}

// checkVersionForm refuses a version that is no number, in the parser's own words, as upstream does.
func checkVersionForm(obj api.Object) error {
	if obj.GetResourceVersion() == "" {
		return nil
	}
	_, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	return err
}

// replace takes a changed object through validation to storage.
func (s *Server) replace(ctx context.Context, t target, obj, live api.Object, entry *store.Entry, ch change) (*document, error) {
	finish, err := s.beginUpdate(ctx, t, obj, live, ch.dryRun)
	if err != nil {
		return nil, err
	}
	committed := false
	defer func() { finish(committed) }()
	if err := s.prepareUpdate(ctx, t, obj, live); err != nil {
		return nil, err
	}
	keepManagedTimes(obj, live)
	if !ch.unguarded {
		finishAdmission, err := s.validate(ctx, t.admission(ctx, admission.Update, obj, live, ch.options, ch.dryRun))
		if err != nil {
			return nil, err
		}
		defer func() { finishAdmission(committed) }()
	}
	doc, err := s.overwrite(ctx, t, obj, live, entry, ch.dryRun)
	committed = err == nil && !ch.dryRun
	return doc, err
}

func (s *Server) beginUpdate(ctx context.Context, t target, obj, live api.Object, dry bool) (func(bool), error) {
	begin := t.v.row.Hooks.BeginUpdate
	if t.sub == "status" {
		begin = t.v.row.Hooks.BeginStatusUpdate
	}
	if begin == nil || t.sub != "" && t.sub != "status" {
		return func(bool) {}, nil
	}
	finish, err := begin(ctx, s.env(), obj, live, dry)
	if err != nil {
		return nil, err
	}
	if finish == nil {
		finish = func(bool) {}
	}
	return finish, nil
}

// prepareUpdate normalizes and validates a changed object.
func (s *Server) prepareUpdate(ctx context.Context, t target, obj, live api.Object) error {
	if err := placeInNamespace(t.v, t.namespace, obj); err != nil {
		return err
	}
	rules, shown := t.rules(), t.v.kindShown(obj)
	obj.SetGeneration(live.GetGeneration())
	if rules.prepare != nil {
		rules.prepare(obj, live)
	}
	// Neither a status nor a guarded update of the parent (binding) is a change of what somebody desires, even where it
	// touches metadata that counts otherwise (a Deployment's annotations).
	if sub := t.subresource(); t.sub != "status" && (sub == nil || sub.Apply == nil) {
		bumpGeneration(t.v.row, obj, live)
	}
	inheritMeta(obj, live)
	// validated as upstream does, which checks against the live version whatever the client sent
	obj.SetResourceVersion(live.GetResourceVersion())
	looks := ""
	switch sub := t.subresource(); {
	case t.sub == "":
		looks = t.v.row.MetaOnUpdate
	case t.sub == "status" && t.v.row.Status != nil:
		looks = t.v.row.Status.MetaOnUpdate
	case sub != nil:
		looks = sub.MetaOnUpdate
	}
	errs := validateChangedMeta(t.v.row, obj, live, looks)
	if rules.validate != nil {
		for _, err := range rules.validate(obj, live) {
			if err.Type == api.Ratcheted {
				callOf(ctx).warn(err.Detail)
				continue
			}
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return invalid(shown, obj.GetName(), errs)
	}
	if rules.warnings != nil {
		callOf(ctx).warn(rules.warnings(obj, live)...)
	}
	if t.v.row.Canonicalize != nil {
		t.v.row.Canonicalize(obj)
	}
	return nil
}

// overwrite stores a finished object in place of the live one, unless nothing has changed, or removes the object if
// its deletion waited for this update.
func (s *Server) overwrite(ctx context.Context, t target, obj, live api.Object, entry *store.Entry, dry bool) (*document, error) {
	if s.deletionDone(t, obj, live) {
		doc, err := s.removeEntry(ctx, t, obj, entry, dry)
		obj.SetResourceVersion(live.GetResourceVersion()) // it is shown as it was sent
		return doc, err
	}
	draft, err := t.v.kind.Encode(obj)
	if err != nil {
		return nil, err
	}
	if draft.Same(entry.Raw(), entry.Revision()) {
		return documentOf(entry), s.still(ctx, t, entry)
	}
	if dry {
		obj.SetResourceVersion(live.GetResourceVersion())
		return &document{obj: obj}, s.still(ctx, t, entry)
	}
	t.v.kind.Remember(draft)
	began := time.Now()
	revision, err := t.v.table.Update(ctx, entry.Key(), draft.Value, entry.Revision(), store.WriteOptions{TTL: s.ttlOf(t.v.row, obj)})
	s.metrics.storage(ctx, t.v, storedUpdate, began, err)
	if err != nil {
		return nil, fmt.Errorf("update %s %q: %w", t.v.row.Name, entry.Key(), err)
	}
	client.Note(ctx, revision)
	return written(obj, draft, revision), nil
}

// still makes sure that an entry is the newest where nothing is written, so that etcd does not. The cache may be behind a write that was answered
// just now: what changes nothing of the state before it could change what it wrote.
func (s *Server) still(ctx context.Context, t target, entry *store.Entry) error {
	if _, err := s.cfg.Store.Sync(ctx); err != nil {
		return fmt.Errorf("reach the newest revision: %w", err)
	}
	if now, _ := t.v.table.Get(entry.Key()); !sameVersion(entry, now) {
		return fmt.Errorf("compare %s %q: %w", t.v.row.Name, entry.Key(), store.ErrConflict)
	}
	return nil
}

// deletionDone tells whether an update removed the last thing that a deletion waited for.
func (s *Server) deletionDone(t target, obj, live api.Object) bool {
	if len(obj.GetFinalizers()) > 0 || live.GetDeletionTimestamp() == nil {
		return false
	}
	if ready := t.v.row.ReadyToDelete; ready != nil && !ready(obj) {
		return false
	}
	grace := live.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}

// createByUpdate is an update of an object that doesn't exist yet.
func (s *Server) createByUpdate(ctx context.Context, t target, ch change) (*document, error) {
	if err := checkPreconditions(t, ch, &metav1.PartialObjectMetadata{}); err != nil {
		return nil, err
	}
	obj, err := ch.compute(nil)
	if err != nil {
		return nil, err
	}
	if err := s.authorizeCreate(ctx, t); err != nil {
		return nil, err
	}
	if err := checkVersionForm(obj); err != nil {
		return nil, err
	}
	obj.SetResourceVersion("") // what was a version of another object isn't one of this, which is applied or put anew
	o := createOptionsOf(ch.options)
	wipeSystemFields(obj)
	if ch.manager != "" {
		s.track(t, nil, obj, ch.manager)
	}
	if err := s.mutate(ctx, t.admission(ctx, admission.Create, obj, nil, o, ch.dryRun)); err != nil {
		return nil, err
	}
	dedupOwners(callOf(ctx), obj, true)
	return s.createOnce(ctx, t, obj, o)
}

func createOptionsOf(o runtime.Object) *metav1.CreateOptions {
	switch o := o.(type) {
	case *metav1.UpdateOptions:
		return &metav1.CreateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
	case *metav1.PatchOptions:
		return &metav1.CreateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
	}
	return &metav1.CreateOptions{}
}
