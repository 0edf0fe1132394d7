package apiserver

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/apiserver/negotiate"
)

// A zpage is a page for people who look into a running server. Programs get it as an object of config.k8s.io if they ask for just that.
type zpage struct {
	name string // of the path: "statusz"
	kind string
	// text writes what people read, after the heading. Its format is nobody's contract: the delimiter is another one each time, as upstream's is.
	text func(delimiter string) string
	// object is the page for programs.
	object func(metav1.TypeMeta, metav1.ObjectMeta) any
}

const (
	zpageComponent = "apiserver"
	zpageGroup     = "config.k8s.io"
	zpageHeading   = "\n" + zpageComponent + " %s\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"
)

var zpageDelimiters = []string{":", ": ", "=", " "}

// zpageMedia is how a page is sent: as text, or as an object of a version.
type zpageMedia struct {
	text    bool
	format  negotiate.Format
	version string
}

func (z zpage) serve(s *Server, w *response, r *http.Request) {
	media, ok := z.media(r.Header.Get("Accept"))
	if !ok {
		if asked, _ := negotiate.Output(r, negotiate.Any); asked.Format == negotiate.Protobuf { // refusals have no other forms than pages
			r = r.Clone(r.Context())
			r.Header.Set("Accept", "application/json")
		}
		s.fail(w, r, negotiate.NotAcceptableFor("application/json", "application/yaml", "text/plain"))
		return
	}
	if media.text {
		delimiter := zpageDelimiters[rand.IntN(len(zpageDelimiters))]
		s.respond(w, r, http.StatusOK, "text/plain; charset=utf-8", []byte(fmt.Sprintf(zpageHeading, z.name)+z.text(delimiter)))
		return
	}
	w.sort.group, w.sort.version = zpageGroup, media.version
	if media.version == "v1alpha1" {
		s.metrics.deprecated.WithLabelValues(zpageGroup, "", z.name, "", media.version).Set(1)
		callOf(r.Context()).warn(fmt.Sprintf("This version of the %s endpoint is deprecated. Please use a newer version.", z.name))
	}
	object := z.object(metav1.TypeMeta{APIVersion: zpageGroup + "/" + media.version, Kind: z.kind}, metav1.ObjectMeta{Name: zpageComponent})
	asked, _ := negotiate.Output(r, negotiate.Any)
	body, err := encodeText(object, negotiate.Media{Format: media.format, Pretty: asked.Pretty})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	contentType := fmt.Sprintf("%s;g=%s;v=%s;as=%s", media.format.ContentType(), zpageGroup, media.version, z.kind)
	s.respond(w, r, http.StatusOK, contentType, body)
}

// media chooses how to answer. An object is sent only in a form that names it wholly, text only without one.
func (z zpage) media(accept string) (zpageMedia, bool) {
	if strings.TrimSpace(accept) == "" {
		return zpageMedia{text: true}, true
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		if clause.Params["stream"] != "" || clause.Params["sv"] != "" {
			continue
		}
		_, group := clause.Params["g"]
		_, version := clause.Params["v"]
		_, kind := clause.Params["as"]
		structured := clause.Params["as"] == z.kind && clause.Params["g"] == zpageGroup && slices.Contains([]string{"v1alpha1", "v1beta1"}, clause.Params["v"])
		for _, format := range []negotiate.Format{negotiate.JSON, negotiate.YAML} {
			if structured && clauseTakes(clause, format.ContentType()) {
				return zpageMedia{format: format, version: clause.Params["v"]}, true
			}
		}
		if !group && !version && !kind && clauseTakes(clause, "text/plain") {
			return zpageMedia{text: true}, true
		}
	}
	return zpageMedia{}, false
}

func clauseTakes(clause goautoneg.Accept, mediaType string) bool {
	main, sub, _ := strings.Cut(mediaType, "/")
	return (clause.Type == "*" || clause.Type == main) && (clause.SubType == "*" || clause.SubType == sub)
}
