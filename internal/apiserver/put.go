package apiserver

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/request"
)

// put replaces an object, or the part of it that a subresource is. obj is a defaulted hub object that the engine may keep.
func (s *Server) put(ctx context.Context, t target, obj api.Object, o *metav1.UpdateOptions) (*document, bool, error) {
	if err := placeInNamespace(t.v, t.namespace, obj); err != nil {
		return nil, false, err
	}
	if err := checkName(obj, t.name); err != nil {
		return nil, false, err
	}
	c := callOf(ctx)
	dedupOwners(c, obj, false)
	return s.update(ctx, t, change{
		compute: func(api.Object) (api.Object, error) { return obj.DeepCopyObject().(api.Object), nil },
		uid:     obj.GetUID(), manager: managerOf(o.FieldManager, c.agent),
		allowCreate: t.v.row.AllowCreateOnUpdate && t.sub == "",
		options:     o, dryRun: dryRun(o.DryRun),
	})
}

// authorizeCreate asks whether an update may create: upstream asks for that verb too.
func (s *Server) authorizeCreate(ctx context.Context, t target) error {
	u := callOf(ctx).user
	if callOf(ctx).internal && privileged(u) {
		return nil
	}
	info := &request.Info{
		IsResource: true, Verb: "create", Group: t.v.gvr.Group, Version: t.v.gvr.Version, Resource: t.v.gvr.Resource,
		Subresource: t.sub, Namespace: t.namespace, Name: t.name,
	}
	return s.authorize(ctx, attributesOf(info, infoOf(u)))
}
