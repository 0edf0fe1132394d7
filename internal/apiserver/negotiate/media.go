package negotiate

import (
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Format is an encoding.
type Format uint8

// The formats.
const (
	JSON Format = iota
	YAML
	Protobuf
)

// ContentType is the format's media type.
func (f Format) ContentType() string { return accepted[f] }

var accepted = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}

// streams are the further types that paths of lists have, which can be watched.
var streams = []string{"application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"}

// Routed tells whether an Accept header names a type that paths have: as it is, without parameters, or any. It knows no other patterns.
func Routed(accept string) bool { return RoutedTo(accept, accepted...) }

// RoutedTo is Routed for a path that has other types than objects have.
func RoutedTo(accept string, types ...string) bool {
	if accept == "" {
		return true
	}
	for clause := range strings.SplitSeq(accept, ",") {
		mediaType, _, _ := strings.Cut(clause, ";")
		if mediaType = strings.TrimSpace(mediaType); mediaType == "*/*" || slices.Contains(types, mediaType) {
			return true
		}
	}
	return false
}

// A Shape is what an object is sent as.
type Shape uint8

// The shapes: the object as it is, a table, its metadata, a list of metadata.
const (
	AsIs Shape = iota
	Table
	Metadata
	MetadataList
)

// Media is how a response is written.
type Media struct {
	Format Format
	Shape  Shape
	// Meta is the version of meta.k8s.io for tables and metadata: "v1" or "v1beta1".
	Meta string
	// Pretty indents JSON.
	Pretty bool
}

// A Kind is what a response may be.
type Kind uint8

// The kinds of response: an object or a list in any format and shape, a watch, which cannot be YAML, or something that
// has no other shape than its own.
const (
	Any Kind = iota
	Streams
	Plain
)

// Parsed Accept headers are few: clients send the same ones all the time.
var cache sync.Map // acceptKey → acceptResult

type acceptKey struct {
	accept string
	kind   Kind
}

type acceptResult struct {
	media Media
	ok    bool
}

// maxAccept bounds the headers that are remembered.
const maxAccept = 256

var (
	cacheMu    sync.Mutex
	cacheCount int
)

// Output chooses how to answer. ok is false when nothing that is accepted can be served: NotAcceptable says so.
func Output(r *http.Request, k Kind) (m Media, ok bool) {
	key := acceptKey{r.Header.Get("Accept"), k}
	result, found := cache.Load(key)
	if !found {
		m, ok := parse(key.accept, k)
		result = acceptResult{m, ok}
		remember(key, result)
	}
	out := result.(acceptResult)
	out.media.Pretty = pretty(r)
	return out.media, out.ok
}

func remember(key acceptKey, value any) {
	cacheMu.Lock()
	defer cacheMu.Unlock()
	if len(key.accept) > 1024 || cacheCount >= maxAccept {
		return
	}
	if _, there := cache.LoadOrStore(key, value); !there {
		cacheCount++
	}
}

func parse(accept string, k Kind) (Media, bool) {
	if accept == "" {
		return Media{}, true
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		for format, mediaType := range accepted {
			main, subtype, _ := strings.Cut(mediaType, "/")
			if !matches(clause.Type, main) || !matches(clause.SubType, subtype) {
				continue
			}
			m, ok := withParams(Media{Format: Format(format)}, clause.Params)
			switch {
			case !ok || k == Plain && m.Shape != AsIs:
			case k == Streams && m.Format == YAML:
				return Media{}, false // upstream looks no further
			default:
				return m, true
			}
		}
	}
	return Media{}, false
}

func matches(asked, have string) bool { return asked == "*" || asked == have }

// withParams reads as, g and v. Other parameters are ignored, as upstream does.
func withParams(m Media, params map[string]string) (Media, bool) {
	as := params["as"]
	if as == "" {
		return m, true
	}
	if params["g"] != metav1.GroupName || (params["v"] != "v1" && params["v"] != "v1beta1") {
		return m, false
	}
	m.Meta = params["v"]
	switch as {
	case "Table":
		m.Shape = Table
		return m, m.Format != Protobuf // which tables have no encoding in
	case "PartialObjectMetadata":
		m.Shape = Metadata
	case "PartialObjectMetadataList":
		m.Shape = MetadataList
	default:
		return m, false
	}
	return m, true
}

// pretty tells whether a person seems to look at the response.
func pretty(r *http.Request) bool {
	if strings.Contains(r.URL.RawQuery, "pretty") {
		if v := r.URL.Query().Get("pretty"); v != "" {
			return v == "true" || v == "1" || v == "t" || v == "T" || v == "TRUE" || v == "True"
		}
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// Input tells how a request's body is encoded; no Content-Type means JSON. ok is false for an unknown one: Unsupported says so.
func Input(contentType string) (Format, bool) {
	if contentType == "" {
		return JSON, true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return JSON, false
	}
	for format, name := range accepted {
		if mediaType == name {
			return Format(format), true
		}
	}
	return JSON, false
}
