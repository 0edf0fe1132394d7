package apiserver

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
)

// A served subresource, for routing and discovery.
type subresource struct {
	name  string
	kind  schema.GroupVersionKind
	verbs []string
}

var partVerbs = []string{"get", "patch", "update"}

// subresources lists what a version serves below its objects, by name, those of custom resources as upstream lists them.
func (v *version) subresources() []subresource {
	var out []subresource
	if v.row.Status != nil {
		out = append(out, subresource{"status", v.gvk, partVerbs})
	}
	if v.row.Scale != nil {
		out = append(out, subresource{"scale", scaleKind, partVerbs})
	}
	for i := range v.row.Subresources {
		sub := &v.row.Subresources[i]
		kind := sub.GVK
		if kind.Empty() {
			kind = v.gvk
		}
		verbs := slices.Clone(sub.Verbs)
		slices.Sort(verbs)
		out = append(out, subresource{sub.Name, kind, verbs})
	}
	for _, name := range v.row.Connect {
		out = append(out, v.connectSubresource(name))
	}
	if v.text() {
		return out
	}
	slices.SortFunc(out, func(a, b subresource) int { return strings.Compare(a.name, b.name) })
	return out
}

func (v *version) connectSubresource(name string) subresource {
	kind := v.gvk
	verbs := []string{"create", "get"}
	switch name {
	case "log":
		return subresource{name, kind, []string{"get"}}
	case "proxy":
		verbs = []string{"create", "delete", "get", "patch", "update"}
	}
	kind.Kind += map[string]string{"exec": "Exec", "attach": "Attach", "portforward": "PortForward", "proxy": "Proxy"}[name] + "Options"
	return subresource{name, kind, verbs}
}

func (v *version) serves(sub string) bool {
	return slices.ContainsFunc(v.subresources(), func(s subresource) bool { return s.name == sub })
}

// serveSubresource serves everything below an object.
func (s *Server) serveSubresource(w *response, r *http.Request, t target, info *request.Info) error {
	all := t.v.subresources()
	i := slices.IndexFunc(all, func(sub subresource) bool { return sub.name == t.sub })
	if i < 0 {
		return errUnserved
	}
	verb := info.Verb
	if t.sub == "proxy" && (r.Method == http.MethodOptions || r.Method == http.MethodHead) {
		verb = "get"
	}
	if !slices.Contains(all[i].verbs, verb) {
		return errMethod
	}
	if verb == "patch" && t.sub != "proxy" && !s.routesPatch(r) {
		return negotiate.UnroutedBody()
	}
	w.reaches(r, info, false)
	if slices.Contains(t.v.row.Connect, t.sub) {
		defer s.metrics.lasting(r, info)()
		return s.serveConnect(w, r, t, info)
	}
	if t.sub == "scale" {
		return s.serveScale(w, r, t, verb)
	}
	switch verb {
	case "get":
		return s.serveGet(w, r, t)
	case "update":
		return s.serveUpdate(w, r, t)
	case "patch":
		return s.servePatch(w, r, t)
	}
	return s.serveSubCreate(w, r, t)
}

// serveSubCreate serves POST to a subresource.
func (s *Server) serveSubCreate(w http.ResponseWriter, r *http.Request, t target) error {
	media, ok := negotiate.Output(r, negotiate.Plain)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Plain)
	}
	o, err := queryOptions(r, func(v *url.Values, o *metav1.CreateOptions) error {
		return metav1.Convert_url_Values_To_v1_CreateOptions(v, o, nil)
	})
	if err != nil {
		return err
	}
	if err := invalidOptions("CreateOptions", metav1validation.ValidateCreateOptions(o)); err != nil {
		return err
	}
	sub := t.subresource()
	body, err := s.decodeSubBody(r, t, sub, o.FieldValidation)
	if err != nil {
		return err
	}
	out, err := s.createSub(r.Context(), t, sub, body, o)
	if err != nil {
		return err
	}
	return s.sendCreated(w, r, out, t.subKind(sub), media)
}

// sendCreated answers with what an operation made.
func (s *Server) sendCreated(w http.ResponseWriter, r *http.Request, out runtime.Object, kind schema.GroupVersionKind, m negotiate.Media) error {
	code := http.StatusCreated
	if status, ok := out.(*metav1.Status); ok {
		if status.Code == 0 {
			status.Code = int32(code)
		}
		kind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}
		callOf(r.Context()).status = status
	}
	body, err := encodeObject(typed(out, kind), m)
	if err != nil {
		return err
	}
	s.respond(w, r, code, m.Format.ContentType(), body)
	return nil
}

func (t target) subKind(sub *api.Subresource) schema.GroupVersionKind {
	if sub == nil || sub.GVK.Empty() {
		return t.v.gvk
	}
	return sub.GVK
}

func (s *Server) decodeSubBody(r *http.Request, t target, sub *api.Subresource, directive string) (runtime.Object, error) {
	format, err := inputFormat(r)
	if err != nil {
		return nil, err
	}
	raw, err := s.readBody(r)
	if err != nil {
		return nil, err
	}
	if sub.New == nil {
		return s.decodeObject(callOf(r.Context()), t.v, raw, format, directive)
	}
	c := callOf(r.Context())
	body, err := s.decode(c, raw, format, t.subKind(sub), sub.New(), directive)
	if err != nil {
		return nil, err
	}
	if into := sub.Body; into != nil && into.Default != nil {
		into.Default(body.(api.Object))
	}
	return body, c.auditBody(body, t.subKind(sub))
}

// createSub performs the operation that posting a body to a subresource is.
func (s *Server) createSub(ctx context.Context, t target, sub *api.Subresource, body runtime.Object, o *metav1.CreateOptions) (runtime.Object, error) {
	if meta, ok := body.(api.Object); ok {
		if err := placeInNamespace(t.v, t.namespace, meta); err != nil {
			return nil, err
		}
		dedupOwners(callOf(ctx), meta, false)
		s.trackBody(callOf(ctx), sub, meta, o)
	}
	dry := dryRun(o.DryRun)
	request := t.admission(ctx, admission.Create, body, nil, o, dry)
	request.Kind = t.subKind(sub)
	if err := s.mutate(ctx, request); err != nil {
		return nil, err
	}
	if sub.Check != nil {
		if err := sub.Check(t.name, body, o); err != nil {
			return nil, err
		}
	}
	finish, err := s.validate(ctx, request)
	if err != nil {
		return nil, err
	}
	out, err := s.performSub(ctx, t, sub, body, o, dry)
	finish(err == nil && !dry)
	return out, err
}

// trackBody records who owns the fields of what is posted, where the answer tells.
func (s *Server) trackBody(c *call, sub *api.Subresource, body api.Object, o *metav1.CreateOptions) {
	if sub.Body == nil || s.cfg.Tracker == nil {
		return
	}
	if sub.Body.Default != nil {
		sub.Body.Default(body)
	}
	s.cfg.Tracker.Update(Tracked{Resource: sub.Body, Version: sub.GVK.Version, Subresource: sub.Name}, nil, body, managerOf(o.FieldManager, c.agent))
}

func (s *Server) performSub(ctx context.Context, t target, sub *api.Subresource, body runtime.Object, o *metav1.CreateOptions, dry bool) (runtime.Object, error) {
	if sub.Apply != nil {
		return s.applySub(ctx, t, sub, body, dry)
	}
	if sub.Create == nil {
		return nil, errMethod
	}
	var parent api.Object
	if !t.v.virtual() {
		e, err := s.get(ctx, target{v: t.v, namespace: t.namespace, name: t.name}, "")
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			if parent, err = objectOf(e); err != nil {
				return nil, err
			}
		}
	}
	if parent == nil && !t.v.virtual() {
		return nil, apierrors.NewNotFound(t.v.gr(), t.name)
	}
	return sub.Create(ctx, s.env(), parent, body, o)
}

// applySub performs an operation that is one guarded update of the parent.
func (s *Server) applySub(ctx context.Context, t target, sub *api.Subresource, body runtime.Object, dry bool) (runtime.Object, error) {
	var out runtime.Object
	var meant metav1.ObjectMeta
	if meta, ok := body.(api.Object); ok {
		meant.UID, meant.ResourceVersion = meta.GetUID(), meta.GetResourceVersion()
	}
	_, _, err := s.update(ctx, t, change{
		uid: meant.UID, version: meant.ResourceVersion,
		compute: func(live api.Object) (api.Object, error) {
			changed, response, err := sub.Apply(live.DeepCopyObject().(api.Object), body)
			out = response
			return changed, err
		},
		options: &metav1.UpdateOptions{}, dryRun: dry, unguarded: true,
	})
	if err != nil {
		return nil, err
	}
	if out == nil {
		out = &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}
	}
	return out, nil
}

// serveVirtual serves kinds that are not stored: reviews and the like.
func (s *Server) serveVirtual(w http.ResponseWriter, r *http.Request, t target) error {
	if r.Method != http.MethodPost {
		return errMethod
	}
	media, ok := negotiate.Output(r, negotiate.Plain)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Plain)
	}
	o, err := queryOptions(r, func(v *url.Values, o *metav1.CreateOptions) error {
		return metav1.Convert_url_Values_To_v1_CreateOptions(v, o, nil)
	})
	if err != nil {
		return err
	}
	format, err := inputFormat(r)
	if err != nil {
		return err
	}
	raw, err := s.readBody(r)
	if err != nil {
		return err
	}
	obj, err := s.decodeObject(callOf(r.Context()), t.v, raw, format, o.FieldValidation)
	if err != nil {
		return err
	}
	out, err := s.createVirtual(r.Context(), t, obj, o)
	if err != nil {
		return err
	}
	return s.sendCreated(w, r, out, t.v.gvk, media)
}

// createVirtual performs the operation that creating an object of a virtual kind is.
func (s *Server) createVirtual(ctx context.Context, t target, obj api.Object, o *metav1.CreateOptions) (runtime.Object, error) {
	if err := placeInNamespace(t.v, t.namespace, obj); err != nil {
		return nil, err
	}
	t.name = obj.GetName()
	wipeSystemFields(obj)
	dedupOwners(callOf(ctx), obj, false)
	s.track(t, nil, obj, managerOf(o.FieldManager, callOf(ctx).agent))
	dry := dryRun(o.DryRun)
	request := t.admission(ctx, admission.Create, obj, nil, o, dry)
	if err := s.mutate(ctx, request); err != nil {
		return nil, err
	}
	if t.v.row.Validate != nil {
		if errs := t.v.row.Validate(obj); len(errs) > 0 {
			return nil, invalid(t.v.gk(), obj.GetName(), errs)
		}
	}
	via, sub, err := s.via(t)
	if err != nil {
		return nil, err
	}
	if sub != nil && sub.Check != nil {
		if err := sub.Check(t.name, obj, o); err != nil {
			return nil, err
		}
	}
	finish, err := s.validate(ctx, request)
	if err != nil {
		return nil, err
	}
	var out runtime.Object
	if sub == nil {
		out, err = t.v.row.Create(ctx, s.env(), obj)
	} else {
		out, err = s.performVia(ctx, via, sub, obj, o)
	}
	finish(err == nil && !dry)
	if err != nil {
		return nil, err
	}
	if hub, ok := out.(api.Object); ok {
		return t.v.fromHub(hub)
	}
	return out, nil
}

// via finds the subresource of a stored object that stands for an object of a virtual kind; nil if the row has its own operation.
func (s *Server) via(t target) (target, *api.Subresource, error) {
	name := t.v.row.CreateVia
	if name == nil {
		if t.v.row.Create == nil {
			return target{}, nil, errMethod
		}
		return target{}, nil, nil
	}
	parent, ok := s.catalog.Load().lookup(t.v.gvk.GroupVersion().WithResource(name.Resource))
	if !ok {
		return target{}, nil, errUnserved
	}
	there := target{v: parent, sub: name.Subresource, namespace: t.namespace, name: t.name}
	sub := there.subresource()
	if sub == nil {
		return target{}, nil, errUnserved
	}
	return there, sub, nil
}

// performVia posts to a subresource that no path has named: the name is the body's.
func (s *Server) performVia(ctx context.Context, t target, sub *api.Subresource, obj api.Object, o *metav1.CreateOptions) (runtime.Object, error) {
	if t.name == "" {
		return nil, apierrors.NewBadRequest("Name parameter required.")
	}
	if err := checkPathName(t.name); err != nil {
		return nil, err
	}
	return s.performSub(ctx, t, sub, obj, o, dryRun(o.DryRun))
}
