package fairness

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"golang.org/x/sync/errgroup"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

// Objects are what every cluster has: the mandatory ones, which are always as they should be, and the suggested ones, which are kept up
// to date unless somebody changed them.
type Objects struct {
	Schemas []*flowcontrolv1.FlowSchema
	Levels  []*flowcontrolv1.PriorityLevelConfiguration
}

// objectManager owns the objects of every cluster.
const objectManager = "api-priority-and-fairness-config-producer-v1"

// maxParallel bounds the writes under way at once: etcd syncs its log once for all of them.
const maxParallel = 32

// Ensure makes the objects of every cluster exist, brings those up to date that their annotation leaves to the server, and removes
// those that the server once made and makes no more.
func Ensure(ctx context.Context, cl client.Client, o Objects) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return ensureKind(ctx, cl, levels, o.Levels, func(have, want *flowcontrolv1.PriorityLevelConfiguration) bool {
			spec := levelSpec(have, want)
			changed := !equality.Semantic.DeepEqual(have.Spec, spec)
			have.Spec = spec
			return changed
		})
	})
	g.Go(func() error {
		return ensureKind(ctx, cl, schemas, o.Schemas, func(have, want *flowcontrolv1.FlowSchema) bool {
			changed := !equality.Semantic.DeepEqual(have.Spec, want.Spec)
			have.Spec = want.Spec
			return changed
		})
	})
	return g.Wait()
}

// levelSpec is the spec that a level should have. What the exempt level lends and counts for is the administrators' to say.
func levelSpec(have, want *flowcontrolv1.PriorityLevelConfiguration) flowcontrolv1.PriorityLevelConfigurationSpec {
	spec := *want.Spec.DeepCopy()
	if have.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt && have.Spec.Exempt != nil {
		spec.Exempt = have.Spec.Exempt.DeepCopy()
	}
	return spec
}

// ensureKind does it for one kind. setSpec gives a copy the wanted spec and tells whether that was a change.
func ensureKind[T client.Object](ctx context.Context, cl client.Client, kind client.Kind[T], want []T, setSpec func(have, want T) bool) error {
	all, err := kind.List(ctx, cl, "", nil)
	if err != nil {
		return fmt.Errorf("list %s: %w", kind.GVR.Resource, err)
	}
	have := make(map[string]T, len(all))
	for _, o := range all {
		have[o.GetName()] = o
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	for _, w := range want {
		h, exists := have[w.GetName()]
		delete(have, w.GetName())
		g.Go(func() error {
			if err := ensureOne(ctx, cl, kind, h, exists, w, setSpec); err != nil {
				return fmt.Errorf("bootstrap %s %s: %w", kind.GVR.Resource, w.GetName(), err)
			}
			return nil
		})
	}
	for name, o := range have {
		if ours, err := strconv.ParseBool(o.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey]); err != nil || !ours {
			continue
		}
		g.Go(func() error {
			uid := o.GetUID()
			err := kind.Delete(ctx, cl, "", name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return fmt.Errorf("remove the former %s %s: %w", kind.GVR.Resource, name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func ensureOne[T client.Object](ctx context.Context, cl client.Client, kind client.Kind[T], have T, exists bool, want T, setSpec func(have, want T) bool) error {
	if !exists {
		_, err := cl.Create(ctx, kind.GVR, want, metav1.CreateOptions{FieldManager: objectManager})
		return another(err, apierrors.IsAlreadyExists)
	}
	next := have.DeepCopyObject().(T)
	auto := mandatory(want.GetName()) || autoUpdated(have)
	changed := false
	if value, err := strconv.ParseBool(have.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey]); err != nil || value != auto {
		annotations := maps.Clone(have.GetAnnotations())
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[flowcontrolv1.AutoUpdateAnnotationKey] = strconv.FormatBool(auto)
		next.SetAnnotations(annotations)
		changed = true
	}
	if auto && setSpec(next, want) {
		changed = true
	}
	if !changed {
		return nil
	}
	_, err := cl.Update(ctx, kind.GVR, "", next, metav1.UpdateOptions{FieldManager: objectManager})
	return another(err, apierrors.IsConflict, apierrors.IsNotFound)
}

// another passes over errors that say that somebody else was faster: the next look will see to what they did.
func another(err error, faster ...func(error) bool) error {
	for _, is := range faster {
		if is(err) {
			return nil
		}
	}
	return err
}

// mandatory tells whether an object is as the server says, whatever its annotation.
func mandatory(name string) bool {
	return name == flowcontrolv1.FlowSchemaNameExempt || name == flowcontrolv1.FlowSchemaNameCatchAll
}

// autoUpdated tells whether the annotation leaves an object's spec to the server. Without one, an object that was never changed is.
func autoUpdated(o client.Object) bool {
	if value, err := strconv.ParseBool(o.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey]); err == nil {
		return value
	}
	return o.GetGeneration() == 1
}
