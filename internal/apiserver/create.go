package apiserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/stored"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

// nameAttempts is how often a generated name is drawn before the request fails.
const nameAttempts = 8

func dryRun(directives []string) bool { return slices.Contains(directives, metav1.DryRunAll) }

// create stores a new object. obj is a defaulted hub object that the engine may keep.
func (s *Server) create(ctx context.Context, t target, obj api.Object, o *metav1.CreateOptions) (*document, error) {
	c := callOf(ctx)
	wipeSystemFields(obj)
	if t.v.row.Namespaced && t.namespace == "" {
		return nil, apierrors.NewBadRequest("an empty namespace may not be set during creation")
	}
	if err := placeInNamespace(t.v, t.namespace, obj); err != nil {
		return nil, err
	}
	t.name = obj.GetName()
	dedupOwners(c, obj, false)
	s.track(t, nil, obj, managerOf(o.FieldManager, c.agent))
	request := t.admission(ctx, admission.Create, obj, nil, o, dryRun(o.DryRun))
	if err := s.mutate(ctx, request); err != nil {
		return nil, err
	}
	dedupOwners(c, obj, true)
	return s.createNamed(ctx, t, obj, o)
}

// createNamed draws names as long as the generated ones are taken.
func (s *Server) createNamed(ctx context.Context, t target, obj api.Object, o *metav1.CreateOptions) (*document, error) {
	if obj.GetName() != "" || obj.GetGenerateName() == "" {
		doc, err := s.createOnce(ctx, t, obj, o)
		if apierrors.IsAlreadyExists(err) && obj.GetGenerateName() != "" { // upstream takes a name that was given for one that was drawn
			err = apierrors.NewGenerateNameConflict(t.v.gr(), obj.GetName(), 1)
		}
		return doc, err
	}
	for attempt := 1; ; attempt++ {
		candidate := obj.DeepCopyObject().(api.Object)
		candidate.SetName(generateName(obj.GetGenerateName()))
		doc, err := s.createOnce(ctx, t, candidate, o)
		if !apierrors.IsAlreadyExists(err) {
			return doc, err
		}
		if attempt == nameAttempts {
			return nil, apierrors.NewGenerateNameConflict(t.v.gr(), candidate.GetName(), 1)
		}
	}
}

// createOnce takes an object that mutating admission has seen through validation to storage.
func (s *Server) createOnce(ctx context.Context, t target, obj api.Object, o *metav1.CreateOptions) (_ *document, err error) {
	dry := dryRun(o.DryRun)
	fillSystemFields(obj)
	finish, err := s.beginCreate(ctx, t, obj, dry)
	if err != nil {
		return nil, err
	}
	committed := false
	defer func() { finish(committed) }()
	if err := s.prepareCreate(ctx, t, obj); err != nil {
		return nil, err
	}
	t.name = obj.GetName()
	finishAdmission, err := s.validate(ctx, t.admission(ctx, admission.Create, obj, nil, o, dry))
	if err != nil {
		return nil, err
	}
	defer func() { finishAdmission(committed) }()
	doc, err := s.insert(ctx, t, obj, dry)
	committed = err == nil && !dry
	return doc, err
}

func (s *Server) beginCreate(ctx context.Context, t target, obj api.Object, dry bool) (func(bool), error) {
	begin := t.v.row.Hooks.BeginCreate
	if begin == nil {
		return func(bool) {}, nil
	}
	finish, err := begin(ctx, s.env(), obj, dry)
	if err != nil {
		return nil, err
	}
	if finish == nil {
		finish = func(bool) {}
	}
	return finish, nil
}

// prepareCreate normalizes and validates an object to be created.
func (s *Server) prepareCreate(ctx context.Context, t target, obj api.Object) error {
	row := t.v.row
	if err := placeInNamespace(t.v, t.namespace, obj); err != nil {
		return err
	}
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	if row.HasGeneration {
		obj.SetGeneration(1)
	}
	if row.PrepareCreate != nil {
		row.PrepareCreate(obj)
	}
	var errs field.ErrorList
	if !row.LooseMeta {
		errs = validateNewMeta(row, obj)
	}
	if row.Validate != nil {
		errs = append(errs, row.Validate(obj)...)
	}
	if len(errs) == 0 {
		errs = validateSegment(row, obj)
	}
	if len(errs) > 0 {
		return invalid(t.v.kindShown(obj), obj.GetName(), errs)
	}
	if row.Warnings != nil {
		callOf(ctx).warn(row.Warnings(obj, nil)...)
	}
	if row.Canonicalize != nil {
		row.Canonicalize(obj)
	}
	return nil
}

// insert writes a finished object under a key that must be free.
func (s *Server) insert(ctx context.Context, t target, obj api.Object, dry bool) (*document, error) {
	key := t.v.key(obj.GetNamespace(), obj.GetName())
	if dry {
		if err := s.refuseTaken(ctx, t, key); err != nil {
			return nil, err
		}
		return &document{obj: obj}, nil
	}
	if rv, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64); err == nil && rv != 0 {
		return nil, errors.New("resourceVersion should not be set on objects to be created")
	}
	draft, err := t.v.kind.Encode(obj)
	if err != nil {
		return nil, err
	}
	t.v.kind.Remember(draft)
	began := time.Now()
	revision, err := t.v.table.Create(ctx, key, draft.Value, store.WriteOptions{TTL: s.ttlOf(t.v.row, obj)})
	s.metrics.storage(ctx, t.v, storedCreate, began, err)
	if errors.Is(err, store.ErrExists) {
		return nil, s.alreadyExists(ctx, t, key)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s %q: %w", t.v.row.Name, key, err)
	}
	client.Note(ctx, revision)
	return written(obj, draft, revision), nil
}

// written is the document of an object that has just been stored.
func written(obj api.Object, draft *stored.Draft, revision int64) *document {
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return &document{obj: obj, draft: draft, revision: revision}
}

func (s *Server) refuseTaken(ctx context.Context, t target, key string) error {
	if _, err := s.cfg.Store.Sync(ctx); err != nil {
		return err
	}
	if e, _ := t.v.table.Get(key); e != nil {
		return s.alreadyExists(ctx, t, key)
	}
	return nil
}

// alreadyExists words the refusal, which differs while the object is on its way out.
func (s *Server) alreadyExists(ctx context.Context, t target, key string) error {
	err := apierrors.NewAlreadyExists(t.v.gr(), t.name)
	if _, syncErr := s.cfg.Store.Sync(ctx); syncErr != nil {
		return err
	}
	if e, _ := t.v.table.Get(key); e != nil && e.Record().Deleting {
		err.ErrStatus.Message = "object is being deleted: " + err.ErrStatus.Message
	}
	return err
}

// ttlOf is how long an object is kept; zero is for ever. Events alone are not.
func (s *Server) ttlOf(row *api.Resource, obj api.Object) time.Duration {
	if row.TTL == nil {
		return 0
	}
	return cmp.Or(s.cfg.EventTTL, row.TTL(obj))
}

// track records who owns the fields of a write.
func (s *Server) track(t target, live, changed api.Object, manager string) {
	if s.cfg.Tracker == nil {
		return
	}
	s.cfg.Tracker.Update(t.tracked(), live, changed, manager)
}

func (t target) tracked() Tracked {
	return Tracked{Resource: t.v.resource.row, Version: t.v.gvk.Version, Subresource: t.sub}
}
