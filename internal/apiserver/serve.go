package apiserver

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	listvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
)

// invalidOptions is the answer to options that contradict each other.
func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

// queryOptions reads options from a query.
func queryOptions[T any](r *http.Request, convert func(*url.Values, *T) error) (*T, error) {
	o := new(T)
	if r.URL.RawQuery == "" {
		return o, nil
	}
	values := r.URL.Query()
	if err := convert(&values, o); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return o, nil
}

func (s *Server) serveGet(w http.ResponseWriter, r *http.Request, t target) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	resourceVersion := ""
	if r.URL.RawQuery != "" {
		query := r.URL.Query()
		if query.Get("export") != "" {
			return apierrors.NewBadRequest("the export parameter, deprecated since v1.14, is no longer supported")
		}
		resourceVersion = query.Get("resourceVersion")
	}
	e, err := s.get(r.Context(), t, resourceVersion)
	if err != nil {
		return err
	}
	return s.sendDocument(w, r, http.StatusOK, t.v, documentOf(e), media)
}

// sendDocument answers with one stored object in the shape asked for.
func (s *Server) sendDocument(w http.ResponseWriter, r *http.Request, code int, v *version, d *document, m negotiate.Media) error {
	scratch := answers.Get().(*[]byte)
	defer answers.Put(scratch)
	began := time.Now()
	body, err := s.shapeDocument(*scratch, r, v, d, m)
	callOf(r.Context()).spent.add(inSerialization, time.Since(began))
	if err != nil {
		return err
	}
	if cap(body) <= maxScratch {
		*scratch = body[:0]
	}
	s.respond(w, r, code, m.Format.ContentType(), body)
	return nil
}

// answers are buffers that short answers are put together in.
var answers = sync.Pool{New: func() any { return new([]byte) }}

const maxScratch = 16 << 10

// shapeDocument returns one stored object in the shape asked for, perhaps in scratch, which is empty.
func (s *Server) shapeDocument(scratch []byte, r *http.Request, v *version, d *document, m negotiate.Media) ([]byte, error) {
	if m.Shape == negotiate.AsIs {
		return appendDocument(scratch, d, v, m)
	}
	hub, err := d.object()
	if err != nil {
		return nil, err
	}
	if m.Shape == negotiate.Table {
		include, err := includeObject(r)
		if err != nil {
			return nil, err
		}
		table, err := newTable(v, m, include, []api.Object{hub}, &metav1.ListMeta{ResourceVersion: hub.GetResourceVersion()})
		if err != nil {
			return nil, err
		}
		return encodeObject(table, m)
	}
	if m.Shape == negotiate.MetadataList && v.text() {
		return nil, errNoList
	}
	if m.Shape == negotiate.MetadataList {
		return nil, otherShape("you requested PartialObjectMetadataList, but the requested object is not a list (%s)", v.hubName(""))
	}
	return encodeObject(v.partialOf(hub, m.Meta), m)
}

// otherShape refuses to send one object as a list, and the reverse.
func otherShape(format, name string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Message: fmt.Sprintf(format, name),
	}}
}

// hubName is how upstream's messages call the Go type of an object or a list: by its internal package.
func (v *version) hubName(suffix string) string {
	if v.text() {
		return "*unstructured.Unstructured" + suffix
	}
	pkg, _, _ := strings.Cut(v.hub.Group, ".")
	return "*" + cmp.Or(pkg, "core") + "." + v.hub.Kind + suffix
}

// listOptions reads and checks the options of a list, a watch or a deletecollection.
func listOptions(r *http.Request) (*metav1.ListOptions, error) {
	o, err := queryOptions(r, func(v *url.Values, o *metav1.ListOptions) error {
		return metav1.Convert_url_Values_To_v1_ListOptions(v, o, nil)
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

func checkListOptions(o *metav1.ListOptions) error {
	internal := &internalversion.ListOptions{
		Watch: o.Watch, AllowWatchBookmarks: o.AllowWatchBookmarks, ResourceVersion: o.ResourceVersion, ResourceVersionMatch: o.ResourceVersionMatch,
		TimeoutSeconds: o.TimeoutSeconds, Limit: o.Limit, Continue: o.Continue, SendInitialEvents: o.SendInitialEvents,
	}
	return invalidOptions("ListOptions", listvalidation.ValidateListOptions(internal, true))
}

// serveList serves list and watch.
func (s *Server) serveList(w http.ResponseWriter, r *http.Request, v *version, info *request.Info) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	o, err := listOptions(r)
	if err != nil {
		return err
	}
	c, err := newChoice(v, info.Namespace, o.LabelSelector, o.FieldSelector)
	if err != nil {
		return err
	}
	if info.WatchPrefix && info.Name != "" {
		c.fields = c.alsoNamed(info.Name)
	}
	// A path below /watch/ doesn't make the options those of a watch.
	if fromStart := o.ResourceVersion == "" || o.ResourceVersion == "0"; o.Watch && fromStart && o.SendInitialEvents == nil && o.ResourceVersionMatch == "" {
		// A watch from nowhere begins with what is there, like one that asks for it.
		o.SendInitialEvents, o.ResourceVersionMatch = &fromStart, metav1.ResourceVersionMatchNotOlderThan
	}
	if err := checkListOptions(o); err != nil {
		return err
	}
	if info.Verb == "watch" {
		defer s.fairness.Watch(info, r.URL.RawQuery)()
		return s.serveWatch(w, r, v, c, o, info)
	}
	p, err := s.list(r.Context(), v, c, o)
	if err != nil {
		return err
	}
	return s.sendPage(w, r, v, p, media)
}

func (s *Server) serveCreate(w http.ResponseWriter, r *http.Request, t target) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	format, err := inputFormat(r)
	if err != nil {
		return err
	}
	o, err := queryOptions(r, func(v *url.Values, o *metav1.CreateOptions) error {
		return metav1.Convert_url_Values_To_v1_CreateOptions(v, o, nil)
	})
	if err != nil {
		return err
	}
	body, err := s.readBody(r)
	if err != nil {
		return err
	}
	if err := invalidOptions("CreateOptions", metav1validation.ValidateCreateOptions(o)); err != nil {
		return err
	}
	obj, err := s.decodeObject(callOf(r.Context()), t.v, body, format, o.FieldValidation)
	if err != nil {
		return err
	}
	doc, err := s.create(r.Context(), t, obj, o)
	if err != nil {
		return err
	}
	return s.sendDocument(w, r, http.StatusCreated, t.v, doc, media)
}

func (s *Server) serveUpdate(w http.ResponseWriter, r *http.Request, t target) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	format, err := inputFormat(r)
	if err != nil {
		return err
	}
	body, err := s.readBody(r)
	if err != nil {
		return err
	}
	o, err := updateOptions(r)
	if err != nil {
		return err
	}
	read := func() (api.Object, error) {
		return s.decodeObject(callOf(r.Context()), t.v, body, format, o.FieldValidation)
	}
	doc, created, err := s.put(r.Context(), t, read, o)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	return s.sendDocument(w, r, code, t.v, doc, media)
}

func updateOptions(r *http.Request) (*metav1.UpdateOptions, error) {
	o, err := queryOptions(r, func(v *url.Values, o *metav1.UpdateOptions) error {
		return metav1.Convert_url_Values_To_v1_UpdateOptions(v, o, nil)
	})
	if err != nil {
		return nil, err
	}
	return o, invalidOptions("UpdateOptions", metav1validation.ValidateUpdateOptions(o))
}

func (s *Server) serveDelete(w http.ResponseWriter, r *http.Request, t target) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	o, err := s.deleteOptions(r)
	if err != nil {
		return err
	}
	out, err := s.remove(r.Context(), t, o)
	if err != nil {
		return err
	}
	code := http.StatusOK
	orphansNot := o.OrphanDependents != nil && !*o.OrphanDependents //nolint:staticcheck // deprecated, still served
	if !out.gone && orphansNot {
		code = http.StatusAccepted
	}
	if out.shown {
		return s.sendDocument(w, r, code, t.v, out.object, media)
	}
	hub, err := out.object.object()
	if err != nil {
		return err
	}
	status := deletedStatus(t, hub.GetUID())
	callOf(r.Context()).status = status
	body, err := encodeObject(status, plain(media))
	if err != nil {
		return err
	}
	s.respond(w, r, code, media.Format.ContentType(), body)
	return nil
}

// plain is a media without its shape: a Status is never a table.
func plain(m negotiate.Media) negotiate.Media {
	m.Shape = negotiate.AsIs
	return m
}

// deleteOptions reads options from the body, or from the query if there is none.
func (s *Server) deleteOptions(r *http.Request) (*metav1.DeleteOptions, error) {
	body, err := s.readBody(r)
	if err != nil {
		return nil, err
	}
	o := &metav1.DeleteOptions{}
	if len(body) == 0 {
		if o, err = queryOptions(r, func(v *url.Values, o *metav1.DeleteOptions) error {
			return metav1.Convert_url_Values_To_v1_DeleteOptions(v, o, nil)
		}); err != nil {
			return nil, err
		}
	} else if err := s.decodeDeleteOptions(r, body, o); err != nil {
		return nil, err
	}
	return o, invalidOptions("DeleteOptions", metav1validation.ValidateDeleteOptions(o))
}

func (s *Server) decodeDeleteOptions(r *http.Request, body []byte, o *metav1.DeleteOptions) error {
	format, err := inputFormat(r)
	if err != nil {
		return err
	}
	want := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
	scheme := s.catalog.Load().scheme
	obj, gvk, err := decoder(scheme, format, false).Decode(body, &want, o)
	if _, custom := obj.(*unstructured.Unstructured); custom && err == nil {
		err = runtime.NewNotRegisteredErrForKind(scheme.Name(), *gvk)
	}
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if obj != o {
		return apierrors.NewBadRequest("decoded object cannot be converted to DeleteOptions")
	}
	return nil
}
