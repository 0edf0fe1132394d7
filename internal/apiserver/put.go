package apiserver

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/request"
)

// put replaces an object, or the part of it that a subresource is. read makes the defaulted hub object that was sent, anew for each attempt:
// the engine keeps it.
func (s *Server) put(ctx context.Context, t target, read func() (api.Object, error), o *metav1.UpdateOptions) (*document, bool, error) {
	c := callOf(ctx)
	sent := func(api.Object) (api.Object, error) {
		obj, err := read()
		if err != nil {
			return nil, err
		}
		if err := placeInNamespace(t.v, t.namespace, obj); err != nil {
			return nil, err
		}
		if err := checkName(obj, t.name); err != nil {
			return nil, err
		}
		dedupOwners(c, obj, false)
		return obj, nil
	}
	first, err := sent(nil)
	if err != nil {
		return nil, false, err
	}
	return s.update(ctx, t, change{
		compute: func(live api.Object) (api.Object, error) {
			if obj := first; obj != nil {
				first = nil
				return obj, nil
			}
			return sent(live)
		},
		uid: first.GetUID(), manager: managerOf(o.FieldManager, c.agent),
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
