package apiserver

import (
	"context"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/audit"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
	"clipper.dev/clipper/internal/client"
)

// An auditedClient records the writes that are made inside the process as those of any client are. Reads of the cache are no requests.
type auditedClient struct{ *localClient }

var _ client.Client = auditedClient{}

type recordKey struct{}

// recordOf returns the record of the write that ctx belongs to, or nil.
func recordOf(ctx context.Context) *audit.Record {
	r, _ := ctx.Value(recordKey{}).(*audit.Record)
	return r
}

// A writing is one write inside the process.
type writing struct {
	verb                 string
	gvr                  schema.GroupVersionResource
	namespace, name, sub string
	object               runtime.Object // nil for none
	patch                []byte
	created              bool
}

// record begins the record of a write; end is to be told what came of it.
func (c auditedClient) record(ctx context.Context, w writing) (_ context.Context, end func(out runtime.Object, err error), _ error) {
	path := w.path()
	info := &request.Info{
		IsResource: true, Verb: w.verb, Group: w.gvr.Group, Version: w.gvr.Version, Resource: w.gvr.Resource, Subresource: w.sub,
		Namespace: w.namespace, Name: w.name, Path: path,
	}
	r, err := c.s.cfg.Auditor.Begin(audit.Request{
		ID: newAuditID(), Received: time.Now(), Attributes: attributesOf(info, infoOf(c.user)), URI: path, Agent: agentOf(c.user),
	})
	if err != nil {
		return ctx, nil, err
	}
	if r == nil {
		return context.WithValue(ctx, recordKey{}, r), func(runtime.Object, error) {}, nil
	}
	wantsBody, wantsAnswer := r.Wants()
	meta, _ := w.object.(metav1.Object)
	body := w.patch
	if w.object != nil && wantsBody {
		body = c.text(w.gvr, w.object)
	}
	r.Object(meta, body)
	return context.WithValue(ctx, recordKey{}, r), func(out runtime.Object, err error) {
		if err != nil {
			status := statusOf(err)
			r.Complete(audit.Answer{Code: int(status.Code), Status: &status})
			return
		}
		a := audit.Answer{Code: http.StatusOK}
		if w.created {
			a.Code = http.StatusCreated
		}
		if out != nil && wantsAnswer {
			a.JSON = c.text(w.gvr, out)
		}
		r.Complete(a)
	}, nil
}

// path is where a client outside would write.
func (w writing) path() string {
	parts := []string{"/api", w.gvr.Version}
	if w.gvr.Group != "" {
		parts = []string{"/apis", w.gvr.Group, w.gvr.Version}
	}
	if w.namespace != "" {
		parts = append(parts, "namespaces", w.namespace)
	}
	parts = append(parts, w.gvr.Resource)
	for _, part := range []string{w.name, w.sub} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// text is an object as JSON, or nil for one that can't be shown.
func (c auditedClient) text(gvr schema.GroupVersionResource, o runtime.Object) []byte {
	if v, ok := c.s.catalog.Load().lookup(gvr); ok && o.GetObjectKind().GroupVersionKind().Empty() {
		if _, whole := o.(api.Object); whole {
			o = typed(o, v.gvk)
		}
	}
	out, err := encodeObject(o, negotiate.Media{})
	if err != nil {
		return nil
	}
	return out
}

// Create implements client.Client.
func (c auditedClient) Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object, opts metav1.CreateOptions) (out api.Object, err error) {
	ctx, end, err := c.record(ctx, writing{verb: "create", gvr: gvr, namespace: obj.GetNamespace(), object: obj, created: true})
	if err != nil {
		return nil, err
	}
	out, err = c.localClient.Create(ctx, gvr, obj, opts)
	end(out, err)
	return out, err
}

// Update implements client.Client.
func (c auditedClient) Update(ctx context.Context, gvr schema.GroupVersionResource, sub string, obj api.Object, opts metav1.UpdateOptions) (out api.Object, err error) {
	ctx, end, err := c.record(ctx, writing{verb: "update", gvr: gvr, namespace: obj.GetNamespace(), name: obj.GetName(), sub: sub, object: obj})
	if err != nil {
		return nil, err
	}
	out, err = c.localClient.Update(ctx, gvr, sub, obj, opts)
	end(out, err)
	return out, err
}

// Delete implements client.Client.
func (c auditedClient) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error {
	ctx, end, err := c.record(ctx, writing{verb: "delete", gvr: gvr, namespace: namespace, name: name})
	if err != nil {
		return err
	}
	err = c.localClient.Delete(ctx, gvr, namespace, name, opts)
	end(nil, err)
	return err
}

// CreateSub implements client.Client.
func (c auditedClient) CreateSub(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, sub string, body runtime.Object, opts metav1.CreateOptions) (out runtime.Object, err error) {
	ctx, end, err := c.record(ctx, writing{verb: "create", gvr: gvr, namespace: namespace, name: name, sub: sub, object: body, created: true})
	if err != nil {
		return nil, err
	}
	out, err = c.localClient.CreateSub(ctx, gvr, namespace, name, sub, body, opts)
	end(out, err)
	return out, err
}

// Patch implements client.Client.
func (c auditedClient) Patch(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, sub string, pt types.PatchType, data []byte, opts metav1.PatchOptions) (out api.Object, err error) {
	ctx, end, err := c.record(ctx, writing{verb: "patch", gvr: gvr, namespace: namespace, name: name, sub: sub, patch: data})
	if err != nil {
		return nil, err
	}
	out, err = c.localClient.Patch(ctx, gvr, namespace, name, sub, pt, data, opts)
	end(out, err)
	return out, err
}

// DeleteCollection implements client.Client.
func (c auditedClient) DeleteCollection(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts metav1.DeleteOptions, list metav1.ListOptions) error {
	ctx, end, err := c.record(ctx, writing{verb: "deletecollection", gvr: gvr, namespace: namespace})
	if err != nil {
		return err
	}
	err = c.localClient.DeleteCollection(ctx, gvr, namespace, opts, list)
	end(nil, err)
	return err
}
