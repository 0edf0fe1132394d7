package apiserver

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
)

// serveObserved serves get and list of kinds whose objects are found at the time of the request.
func (s *Server) serveObserved(w http.ResponseWriter, r *http.Request, t target, info *request.Info) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	if info.Verb == "get" {
		found, err := s.observe(r.Context(), t.v, api.Observation{Namespace: t.namespace, Name: t.name, Labels: labels.Everything()})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(found, func(o api.Object) bool { return o.GetName() == t.name && o.GetNamespace() == t.namespace })
		if i < 0 {
			return apierrors.NewNotFound(t.v.gr(), t.name)
		}
		return s.sendDocument(w, r, http.StatusOK, t.v, &document{obj: found[i]}, media)
	}
	o, err := listOptions(r)
	if err != nil {
		return err
	}
	c, err := newChoice(t.v, t.namespace, o.LabelSelector, o.FieldSelector)
	if err != nil {
		return err
	}
	found, err := s.observe(r.Context(), t.v, api.Observation{Namespace: t.namespace, Labels: c.labels})
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(o api.Object) bool { return !c.has(o) })
	body, err := encodeObserved(r, t.v, found, media)
	if err != nil {
		return err
	}
	s.respond(w, r, http.StatusOK, media.Format.ContentType(), body)
	return nil
}

// observe returns what is found, in the order of namespaces and names.
func (s *Server) observe(ctx context.Context, v *version, asked api.Observation) ([]api.Object, error) {
	found, err := v.row.Observe(ctx, s.env(), asked)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b api.Object) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return found, nil
}

// has judges an object that no table holds.
func (c choice) has(o api.Object) bool {
	return c.labels.Matches(labels.Set(o.GetLabels())) &&
		c.fields.Matches(fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()})
}

func encodeObserved(r *http.Request, v *version, found []api.Object, m negotiate.Media) ([]byte, error) {
	if m.Shape == negotiate.AsIs {
		items := make([]runtime.Object, len(found))
		for i, o := range found {
			items[i] = o
		}
		list := v.api.NewList()
		if err := meta.SetList(list, items); err != nil {
			return nil, fmt.Errorf("list %s: %w", v.row.Name, err)
		}
		return encodeObject(typed(list, v.gvk.GroupVersion().WithKind(v.listKind)), m)
	}
	if m.Shape != negotiate.Table {
		return encodeObject(v.partialListOf(found, m.Meta, metav1.ListMeta{}), m)
	}
	include, err := includeObject(r)
	if err != nil {
		return nil, err
	}
	table, err := newTable(v, m, include, found, &metav1.ListMeta{})
	if err != nil {
		return nil, err
	}
	return encodeObject(table, m)
}
