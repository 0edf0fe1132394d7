package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/munnerz/goautoneg"

	"clipper.dev/clipper/internal/apiserver"
)

// Install serves the documents of a server under /openapi.
func (d *Documents) Install(s *apiserver.Server) {
	s.Handle("/openapi/v2", http.HandlerFunc(d.serveV2))
	s.Handle("/openapi/v3", http.HandlerFunc(d.serveIndex))
	s.Handle("/openapi/v3/", http.HandlerFunc(d.serveV3))
}

// A media is a form by its name.
type media struct {
	subtype, sentAs string
	form            form
}

var (
	v2Media = []media{
		{"json", "application/json", asJSON},
		{"com.github.proto-openapi.spec.v2@v1.0+protobuf", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", asProtobuf},
		{"com.github.proto-openapi.spec.v2.v1.0+protobuf", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", asProtobuf},
	}
	v3Media = []media{
		{"json", "application/json", asJSON},
		{"com.github.proto-openapi.spec.v3.v1.0+protobuf", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf", asProtobuf},
		{"com.github.proto-openapi.spec.v3@v1.0+protobuf", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf", asProtobuf},
	}
)

// negotiate chooses what is accepted, by the client's preference.
func negotiate(r *http.Request, served []media) (media, bool) {
	accept := r.Header.Get("Accept")
	if accept == "" {
		accept = "*/*"
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		for _, m := range served {
			if (clause.Type == "application" || clause.Type == "*") && (clause.SubType == m.subtype || clause.SubType == "*") {
				return m, true
			}
		}
	}
	return media{}, false
}

func readOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	return false
}

func (d *Documents) serveV2(w http.ResponseWriter, r *http.Request) {
	w.Header()["Vary"] = []string{"Accept-Encoding", "Accept"}
	m, ok := negotiate(r, v2Media)
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	if !readOnly(w, r) {
		return
	}
	doc, err := d.v2(m.form)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	doc.send(w, r, m.sentAs)
}

// serveIndex tells where the documents of version 3 are.
func (d *Documents) serveIndex(w http.ResponseWriter, r *http.Request) {
	if !readOnly(w, r) {
		return
	}
	paths := d.paths()
	d.forget(paths)
	type entry struct {
		ServerRelativeURL string `json:"serverRelativeURL"`
	}
	index := struct {
		Paths map[string]entry `json:"paths"`
	}{map[string]entry{}}
	for path, hash := range paths {
		index.Paths[path] = entry{address(path, hash)}
	}
	raw, err := json.Marshal(index)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	document{hash: d.hashOf(string(raw)), gzipped: pack(raw)}.send(w, r, "application/json")
}

func address(path, hash string) string {
	u := url.URL{Path: "/openapi/v3/" + path, RawQuery: url.Values{"hash": {hash}}.Encode()}
	return u.String()
}

func (d *Documents) serveV3(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/openapi/v3/")
	w.Header().Add("Vary", "Accept")
	m, ok := negotiate(r, v3Media)
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	if !readOnly(w, r) {
		return
	}
	doc, ok, err := d.v3(path, m.form)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if !ok {
		w.Header().Del("Vary")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if hash := r.URL.Query().Get("hash"); hash != "" {
		if hash != doc.hash {
			http.Redirect(w, r, address(path, doc.hash), http.StatusMovedPermanently)
			return
		}
		// What a hash names never changes.
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	doc.send(w, r, m.sentAs)
}

// send answers with a document, unless the client has it.
func (d document) send(w http.ResponseWriter, r *http.Request, contentType string) {
	h := w.Header()
	etag := strconv.Quote(d.hash)
	h.Set("Etag", etag)
	h.Set("Content-Type", contentType)
	if !d.at.IsZero() {
		h.Set("Last-Modified", d.at.UTC().Format(http.TimeFormat))
	}
	if has(r, etag) {
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := d.gzipped
	if acceptsGzip(r) {
		if !slices.Contains(h["Vary"], "Accept-Encoding") {
			h.Add("Vary", "Accept-Encoding")
		}
		h.Set("Content-Encoding", "gzip")
	} else {
		raw, err := unpack(d.gzipped)
		if err != nil {
			http.Error(w, fmt.Sprintf("unpack the document: %v", err), http.StatusInternalServerError)
			return
		}
		body = raw
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that went away is no error of the server's
	}
}

// has tells whether the client has the document already.
func has(r *http.Request, etag string) bool {
	for _, known := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		known = strings.TrimPrefix(strings.TrimSpace(known), "W/")
		if known == etag || known == "*" {
			return true
		}
	}
	return false
}

func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" {
			return strings.TrimSpace(quality) != "q=0"
		}
	}
	return false
}
