package apiserver

import (
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/munnerz/goautoneg"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
)

// Upstream routes requests for built-in resources by method, path and media types, before anything else looks at them. Its handler of custom
// resources goes by the verb alone: what else a request may not be, the operation finds, with other answers.

// custom tells whether all resources of a group's version are custom ones: what else is asked of it is nobody's.
func (g *groupVersion) custom() bool {
	return !slices.ContainsFunc(g.resources, func(v *version) bool { return !v.text() })
}

// outOfScope tells whether a request has a namespace that the resource has not, or lacks one that its verb needs.
func outOfScope(v *version, info *request.Info) bool {
	if !v.row.Namespaced {
		return info.Namespace != ""
	}
	return info.Namespace == "" && info.Verb != "list" && info.Verb != "watch"
}

// serveCustom runs one operation on a custom resource or on a part of it.
func (s *Server) serveCustom(w *response, r *http.Request, t target, info *request.Info) error {
	s.noteDeprecated(r, t.v, info)
	verbs := t.v.verbs()
	if t.sub != "" {
		all := t.v.subresources()
		i := slices.IndexFunc(all, func(sub subresource) bool { return sub.name == t.sub })
		if i < 0 {
			return apierrors.NewNotFound(t.v.gr(), t.name)
		}
		verbs = all[i].verbs
	}
	if !slices.Contains(verbs, info.Verb) {
		return apierrors.NewMethodNotSupported(t.v.gr(), info.Verb)
	}
	w.reaches(r, info, true)
	if err := checkCustom(r, t, info.Verb); err != nil {
		return err
	}
	if t.sub == "scale" {
		return s.serveScale(w, r, t, info.Verb)
	}
	return s.serveVerb(w, r, t, info)
}

// customPatches are the types of patches that custom resources take.
var customPatches = []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType)}

// checkCustom checks, in upstream's order, the type of a patch, the name in the path and the media types.
func checkCustom(r *http.Request, t target, verb string) error {
	if mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); verb == "patch" && !slices.Contains(customPatches, mediaType) {
		return negotiate.Unsupported(customPatches...)
	}
	if t.name == "" && (verb == "update" || verb == "patch") {
		return apierrors.NewBadRequest("name must be provided")
	}
	if verb != "create" { // whose name is the object's
		if err := checkPathName(t.name); err != nil {
			return err
		}
	}
	if err := acceptText(r); err != nil {
		return err
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if (verb == "create" || verb == "update") && t.sub != "scale" && mediaType == negotiate.Protobuf.ContentType() {
		return negotiate.Unsupported(negotiate.JSON.ContentType(), negotiate.YAML.ContentType())
	}
	return nil
}

// acceptText refuses an Accept header that allows for nothing but protobuf, which is there for metadata only, and narrows others to what else
// they allow for.
func acceptText(r *http.Request) error {
	if _, ok := negotiate.Output(r, negotiate.Any); !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	accept := r.Header.Get("Accept")
	if !strings.Contains(accept, "protobuf") {
		return nil
	}
	var kept []string
	for _, clause := range goautoneg.ParseAccept(accept) {
		if clause.SubType == "vnd.kubernetes.protobuf" && !strings.HasPrefix(clause.Params["as"], "PartialObjectMetadata") {
			continue
		}
		text := clause.Type + "/" + clause.SubType
		for name, value := range clause.Params {
			text += ";" + name + "=" + value
		}
		kept = append(kept, text)
	}
	if len(kept) == 0 {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	r.Header.Set("Accept", strings.Join(kept, ","))
	return nil
}

// errNoList is the answer to who asks for one object as a list of metadata: upstream finds out when it looks for the items.
var errNoList = errors.New("content is not a list")

// customListMeta is a list's metadata as lists without a type have it: empty fields show.
type customListMeta struct {
	Continue           string `json:"continue"`
	RemainingItemCount *int64 `json:"remainingItemCount,omitempty"`
	ResourceVersion    string `json:"resourceVersion"`
}

// listMeta is the metadata of a list as it is sent.
func (v *version) listMeta(m *metav1.ListMeta) any {
	if !v.text() {
		return m
	}
	return customListMeta{m.Continue, m.RemainingItemCount, m.ResourceVersion}
}
