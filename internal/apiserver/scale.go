package apiserver

import (
	"context"
	"net/http"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
)

var scaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

func newScale() runtime.Object { return &autoscalingv1.Scale{} }

// scaleOf shows an object's scale.
func scaleOf(row *api.Resource, obj api.Object) (*autoscalingv1.Scale, error) {
	spec, status, selector, err := row.Scale.Get(obj)
	if err != nil {
		return nil, err
	}
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: spec},
		Status: autoscalingv1.ScaleStatus{Replicas: status, Selector: selector},
	}, nil
}

func (s *Server) serveScale(w http.ResponseWriter, r *http.Request, t target, verb string) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	switch verb {
	case "get":
		e, err := s.get(r.Context(), t, r.URL.Query().Get("resourceVersion"))
		if err != nil {
			return err
		}
		return s.sendScale(w, r, t, documentOf(e), media)
	case "patch":
		return s.patchScale(w, r, t, media)
	}
	format, err := inputFormat(r)
	if err != nil {
		return err
	}
	o, err := updateOptions(r)
	if err != nil {
		return err
	}
	raw, err := s.readBody(r)
	if err != nil {
		return err
	}
	body, err := s.decode(callOf(r.Context()), raw, format, scaleKind, newScale(), o.FieldValidation)
	if err != nil {
		return err
	}
	if err := callOf(r.Context()).auditBody(body, scaleKind); err != nil {
		return err
	}
	doc, err := s.putScale(r.Context(), t, body.(*autoscalingv1.Scale), o)
	if err != nil {
		return err
	}
	return s.sendScale(w, r, t, doc, media)
}

func (s *Server) sendScale(w http.ResponseWriter, r *http.Request, t target, doc *document, m negotiate.Media) error {
	hub, err := doc.object()
	if err != nil {
		return err
	}
	scale, err := scaleOf(t.v.row, hub)
	if err != nil {
		return err
	}
	out := typed(scale, scaleKind)
	if m.Shape == negotiate.Metadata {
		out = t.v.partialOf(scale, m.Meta)
	}
	body, err := encodeObject(out, plain(m))
	if err != nil {
		return err
	}
	s.respond(w, r, http.StatusOK, m.Format.ContentType(), body)
	return nil
}

// putScale sets the replicas that a scale asks for.
func (s *Server) putScale(ctx context.Context, t target, scale *autoscalingv1.Scale, o *metav1.UpdateOptions) (*document, error) {
	if err := placeInNamespace(t.v, t.namespace, scale); err != nil {
		return nil, err
	}
	if err := checkName(scale, t.name); err != nil {
		return nil, err
	}
	dedupOwners(callOf(ctx), scale, false)
	return s.changeScale(ctx, t, scale.UID, func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return scale, nil }, o, managerOf(o.FieldManager, callOf(ctx).agent), dryRun(o.DryRun))
}

// changeScale computes a new scale from the live one and writes its replicas to the object. uid, if set, is the object that is meant.
func (s *Server) changeScale(ctx context.Context, t target, uid types.UID, compute func(live *autoscalingv1.Scale) (*autoscalingv1.Scale, error), o runtime.Object, manager string, dry bool) (*document, error) {
	doc, _, err := s.update(ctx, t, change{
		compute: func(live api.Object) (api.Object, error) {
			before, err := scaleOf(t.v.row, live)
			if err != nil {
				return nil, err
			}
			before.ManagedFields = t.scaleManagers(live)
			scale, err := compute(before)
			if err != nil {
				return nil, err
			}
			return rescaled(t, live, scale)
		},
		uid: uid, manager: manager, options: o, dryRun: dry,
	})
	return doc, err
}

// rescaled returns the object with the replicas of a scale, which must be a valid one of that object.
func rescaled(t target, live api.Object, scale *autoscalingv1.Scale) (api.Object, error) {
	scale.ManagedFields = nil // never a client's to say; those of the object are kept
	errs := validateNewMeta(&api.Resource{Namespaced: true}, scale)
	if scale.Spec.Replicas < 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "replicas"), scale.Spec.Replicas, "must be greater than or equal to 0"))
	}
	if len(errs) > 0 {
		return nil, apierrors.NewInvalid(scaleKind.GroupKind(), t.name, errs)
	}
	if scale.UID != "" && scale.UID != live.GetUID() {
		gr := t.v.gr()
		gr.Resource += "/scale"
		return nil, apierrors.NewConflict(gr, t.name, otherUID(scale.UID, live))
	}
	obj := live.DeepCopyObject().(api.Object)
	if scale.ResourceVersion != "" {
		obj.SetResourceVersion(scale.ResourceVersion)
	}
	t.v.row.Scale.Set(obj, scale.Spec.Replicas)
	return obj, nil
}

// scaleManagers tells who owns the replicas of an object's scale.
func (t target) scaleManagers(obj api.Object) []metav1.ManagedFieldsEntry {
	if t.v.row.Scale.ReplicasPath == "" {
		return nil
	}
	path := fieldpath.MakePathOrDie(anySlice(strings.Split(t.v.row.Scale.ReplicasPath, "."))...)
	gv := t.v.gvk.GroupVersion().String()
	managers, err := managedfields.NewScaleHandler(obj.GetManagedFields(), t.v.gvk.GroupVersion(), managedfields.ResourcePathMappings{gv: path}).ToSubresource()
	if err != nil {
		return nil
	}
	return managers
}

func anySlice(names []string) []any {
	out := make([]any, len(names))
	for i := range names {
		out[i] = names[i]
	}
	return out
}
