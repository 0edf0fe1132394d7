package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"clipper.dev/clipper/internal/apiserver"
)

// An Addition is a group and version that another server serves.
type Addition struct {
	// Path is where its resources are served: "apis/stable.example.com/v1".
	Path string
	// Hash changes whenever its documents do.
	Hash string
	// V3 and V2 make its documents; V2 may return nil. They are called when somebody asks.
	V3 func() (*spec3.OpenAPI, error)
	V2 func() (*spec.Swagger, error)
}

// Config says what to document. Served is required: (*apiserver.Server).Served.
type Config struct {
	Served func() []apiserver.Served
	// Additions are served beside; nil is none.
	Additions func() []Addition
	// Release is the version of the API; "1.36" is the default.
	Release string
}

// Documents makes and serves the documents. Each is made when it is first asked for, and kept compressed as long as
// what it documents stays the same.
type Documents struct {
	cfg Config

	mu   sync.Mutex // guards kept, and lets one document be made at a time
	kept map[string]*kept
}

// kept is a document that has been made.
type kept struct {
	hash  string
	at    time.Time
	forms map[form][]byte // compressed
}

// A form is how a document is written.
type form int

const (
	asJSON form = iota
	asProtobuf
)

// New returns the documents of a server.
func New(cfg Config) *Documents {
	if cfg.Release == "" {
		cfg.Release = "1.36"
	}
	return &Documents{cfg: cfg, kept: map[string]*kept{}}
}

func (d *Documents) additions() []Addition {
	if d.cfg.Additions == nil {
		return nil
	}
	return d.cfg.Additions()
}

// hashOf identifies what documents are made from.
func (d *Documents) hashOf(parts ...any) string {
	h := sha512.New()
	fmt.Fprintln(h, d.cfg.Release, digest())
	for _, p := range parts {
		fmt.Fprintln(h, p)
	}
	return fmt.Sprintf("%X", h.Sum(nil))
}

// digest identifies the definitions.
var digest = sync.OnceValue(func() string { return fmt.Sprintf("%X", sha512.Sum512(definitionsGzip)) })

// shape tells a container's routes apart from others'.
func (c *container) shape() string {
	var out strings.Builder
	out.WriteString(c.root)
	for _, r := range c.routes {
		r := r.(*route)
		fmt.Fprintf(&out, "\n%s %s %s %s %v", r.method, r.path, r.operation, r.body, r.answers)
	}
	for _, raw := range c.schemas {
		fmt.Fprintf(&out, "\n%s", raw)
	}
	return out.String()
}

// paths lists the documents of version 3 with their hashes.
func (d *Documents) paths() map[string]string {
	out := map[string]string{}
	for _, c := range containersOf(d.cfg.Served()) {
		out[c.root[1:]] = d.hashOf(c.shape())
	}
	for _, a := range d.additions() {
		out[a.Path] = d.hashOf(a.Path, a.Hash)
	}
	return out
}

// v3 returns the document of a path in a form, compressed; ok is false if there is none.
func (d *Documents) v3(path string, f form) (doc document, ok bool, err error) {
	served := d.cfg.Served()
	for _, c := range containersOf(served) {
		if c.root[1:] == path {
			doc, err = d.keep("v3/"+path, d.hashOf(c.shape()), f, func() ([]byte, error) { return marshalV3(buildV3(c, served, d.cfg.Release)) })
			return doc, true, err
		}
	}
	for _, a := range d.additions() {
		if a.Path == path {
			doc, err = d.keep("v3/"+path, d.hashOf(a.Path, a.Hash), f, func() ([]byte, error) { return marshalV3(a.V3()) })
			return doc, true, err
		}
	}
	return document{}, false, nil
}

func marshalV3(doc *spec3.OpenAPI, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(doc)
}

// v2 returns the one document of version 2, compressed.
func (d *Documents) v2(f form) (document, error) {
	served, additions := d.cfg.Served(), d.additions()
	containers := containersOf(served)
	var parts []any
	for _, c := range containers {
		parts = append(parts, c.shape())
	}
	for _, a := range additions {
		parts = append(parts, a.Path+" "+a.Hash)
	}
	return d.keep("v2", d.hashOf(parts...), f, func() ([]byte, error) {
		doc, err := buildV2(containers, served, d.cfg.Release)
		if err != nil {
			return nil, err
		}
		for _, a := range additions {
			if err := merge(doc, a); err != nil {
				return nil, err
			}
		}
		return doc.MarshalJSON()
	})
}

// merge adds what another document has.
func merge(doc *spec.Swagger, a Addition) error {
	if a.V2 == nil {
		return nil
	}
	more, err := a.V2()
	if err != nil {
		return fmt.Errorf("document %s: %w", a.Path, err)
	}
	if more == nil {
		return nil
	}
	if more.Paths != nil {
		for path, item := range more.Paths.Paths {
			doc.Paths.Paths[path] = item
		}
	}
	for name, definition := range more.Definitions {
		if _, own := doc.Definitions[name]; !own { // metadata and the like are the same type everywhere
			doc.Definitions[name] = definition
		}
	}
	for name, parameter := range more.Parameters {
		if _, own := doc.Parameters[name]; !own {
			doc.Parameters[name] = parameter
		}
	}
	return nil
}

// A document is one in one form.
type document struct {
	hash    string
	at      time.Time
	gzipped []byte
}

// keep returns a document that is kept, or makes it.
func (d *Documents) keep(name, hash string, f form, build func() ([]byte, error)) (document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.kept[name]
	if k == nil || k.hash != hash {
		raw, err := build()
		if err != nil {
			return document{}, err
		}
		k = &kept{hash: hash, at: time.Now(), forms: map[form][]byte{asJSON: pack(raw)}}
		d.kept[name] = k
	}
	if k.forms[f] == nil {
		raw, err := toProtobuf(name, k.forms[asJSON])
		if err != nil {
			return document{}, fmt.Errorf("write the document %s as protobuf: %w", name, err)
		}
		k.forms[f] = pack(raw)
	}
	return document{hash: hash, at: k.at, gzipped: k.forms[f]}, nil
}

func toProtobuf(name string, packed []byte) ([]byte, error) {
	raw, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	var message proto.Message
	if name == "v2" {
		message, err = openapi_v2.ParseDocument(raw)
	} else {
		message, err = openapi_v3.ParseDocument(raw)
	}
	if err != nil {
		return nil, err
	}
	return proto.Marshal(message)
}

// forget drops the documents of paths that are served no more.
func (d *Documents) forget(paths map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.kept {
		if path, ok := strings.CutPrefix(name, "v3/"); ok && paths[path] == "" {
			delete(d.kept, name)
		}
	}
}

func pack(raw []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(raw) // a buffer takes everything
	_ = z.Close()
	return slices.Clip(buf.Bytes())
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(z); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
