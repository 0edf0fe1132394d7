package apiserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/stored"
	"clipper.dev/clipper/internal/apiserver/wire"
)

// readBody reads a whole body within the limit.
func (s *Server) readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	limit := s.cfg.MaxBodyBytes
	if r.ContentLength > limit {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
	}
	capacity := r.ContentLength
	if capacity < 0 {
		capacity = 512
	}
	var err error
	body, whole := takeWhole(r.Body)
	if !whole {
		body, err = readAll(io.LimitReader(r.Body, limit+1), int(capacity))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if int64(len(body)) > limit {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
	}
	c := callOf(r.Context())
	c.received, c.read = len(body), true
	if c.keepBody {
		c.body, c.bodyType = body, r.Header.Get("Content-Type")
	}
	return body, nil
}

// takeWhole takes over a body that its connection holds in one piece.
func takeWhole(body io.ReadCloser) ([]byte, bool) {
	b, ok := body.(interface{ Whole() ([]byte, bool) })
	if !ok {
		return nil, false
	}
	return b.Whole()
}

func readAll(r io.Reader, capacity int) ([]byte, error) {
	out := make([]byte, 0, capacity+1)
	for {
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if len(out) == cap(out) {
			out = append(out, 0)[:len(out)]
		}
	}
}

// strictness is what happens to unknown and duplicate fields.
func strictness(directive string) string {
	if directive == "" {
		return metav1.FieldValidationWarn
	}
	return directive
}

// decode reads a body that must be of one type. Unknown fields are refused, warned of or ignored as the directive says.
func (s *Server) decode(c *call, body []byte, format negotiate.Format, want schema.GroupVersionKind, into runtime.Object, directive string) (runtime.Object, error) {
	if format == negotiate.Protobuf && !recursive(want) && decodeMessage(body, want, into) {
		return into, nil
	}
	directive = strictness(directive)
	scheme := s.catalog.Load().scheme
	if format == negotiate.Protobuf && recursive(want) {
		if _, _, msg, err := wire.OpenEnvelope(body); err == nil && wire.TooDeep(msg) {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: exceeded max depth", want.Kind, want.Version, want.Kind))
		}
	}
	obj, gvk, err := decoder(scheme, format, directive != metav1.FieldValidationIgnore).Decode(body, &want, into)
	if err != nil {
		strict, isStrict := runtime.AsStrictDecodingError(err)
		if !isStrict || obj == nil || directive != metav1.FieldValidationWarn {
			return nil, undecodable(err, want.Kind, gvk, body)
		}
		for _, e := range strict.Errors() {
			c.warn(decodingWarnings(e)...)
		}
	}
	_, isText := obj.(*unstructured.Unstructured)
	if gvk.Kind != want.Kind && !isText { // a custom resource's kind is judged by its validation
		err := fmt.Errorf("converting (%s) to (%s): unknown conversion", goName(obj), internalName(want))
		return nil, undecodable(err, want.Kind, gvk, body)
	}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		if _, _, err := unstructured.NestedString(u.Object, "apiVersion"); err != nil {
			return nil, undecodable(err, want.Kind, gvk, body)
		}
	}
	if gvk.GroupVersion() != want.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", gvk.GroupVersion(), want.GroupVersion()))
	}
	if reflect.TypeOf(obj) != reflect.TypeOf(into) {
		err := fmt.Errorf("converting (%s) to (%s): unknown conversion", goName(obj), internalName(want))
		return nil, undecodable(err, want.Kind, gvk, body)
	}
	return obj, nil
}

// decodeMessage reads a protobuf body that is of the type that is wanted, as nearly all are; false means that it has to be looked at closely.
func decodeMessage(body []byte, want schema.GroupVersionKind, into runtime.Object) bool {
	apiVersion, kind, msg, err := wire.OpenEnvelope(body)
	if wanted, _ := want.ToAPIVersionAndKind(); err != nil || kind != want.Kind || apiVersion != wanted {
		return false
	}
	m, ok := into.(stored.Message)
	if !ok || m.Unmarshal(msg) != nil {
		return false
	}
	into.GetObjectKind().SetGroupVersionKind(want)
	return true
}

// recursive tells the kind whose messages may hold themselves: a schema does.
func recursive(gvk schema.GroupVersionKind) bool { return gvk.Kind == "CustomResourceDefinition" }

// decodingWarnings words what a lenient decoding found. The YAML library lists all duplicate keys in one error, a line for each.
func decodingWarnings(err error) []string {
	text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	list, isYAML := strings.CutPrefix(text, "yaml: unmarshal errors:\n")
	if !isYAML {
		return []string{err.Error()}
	}
	lines := strings.Split(list, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return lines
}

func goName(o any) string { return strings.TrimPrefix(fmt.Sprintf("%T", o), "*") }

// internalName is how upstream's messages call its own type of a kind.
func internalName(gvk schema.GroupVersionKind) string {
	pkg, _, _ := strings.Cut(gvk.Group, ".")
	if pkg == "" || pkg == "events" {
		pkg = "core"
	}
	return pkg + "." + gvk.Kind
}

func decoder(scheme *runtime.Scheme, format negotiate.Format, strict bool) runtime.Decoder {
	if format == negotiate.Protobuf {
		return protobuf.NewSerializer(scheme, scheme)
	}
	return jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, scheme, scheme,
		jsonserializer.SerializerOptions{Yaml: format == negotiate.YAML, Strict: strict})
}

// undecodable words a decoding error as upstream does.
func undecodable(err error, want string, gvk *schema.GroupVersionKind, body []byte) error {
	if gvk != nil && gvk.Kind != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", gvk.Kind, gvk.Version, want, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want, err, summary(body)))
}

// summary shows the beginning of a body that could not be read: as text if it may be JSON, else in hex.
func summary(body []byte) string {
	const limit = 30
	if len(body) == 0 {
		return "<empty>"
	}
	show := hex.EncodeToString
	if body[0] == '{' {
		show = func(b []byte) string { return string(b) }
	}
	if len(body) > limit {
		return show(body[:limit]) + " ..."
	}
	return show(body)
}

// decodeObject reads a body as a version's object and returns it as a defaulted hub object.
func (s *Server) decodeObject(c *call, v *version, body []byte, format negotiate.Format, directive string) (api.Object, error) {
	obj, err := s.decode(c, body, format, v.gvk, v.api.New(), directive)
	if err != nil {
		return nil, err
	}
	hub, err := v.acceptChecked(c, obj.(api.Object), directive, v.unfit)
	if err != nil {
		return nil, err
	}
	return hub, c.auditObject(v, hub)
}

// accept turns an object of a version, which it may keep, into a defaulted hub object.
func (v *version) accept(obj api.Object) (api.Object, error) {
	hub, err := v.toHub(obj)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	dropType(hub)
	if v.row.Default != nil {
		v.row.Default(hub)
	}
	return hub, nil
}

// inputFormat tells how a body is encoded, or answers 415.
func inputFormat(r *http.Request) (negotiate.Format, error) {
	format, ok := negotiate.Input(r.Header.Get("Content-Type"))
	if !ok {
		return format, negotiate.Unsupported()
	}
	return format, nil
}
