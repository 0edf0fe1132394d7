package apiserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/packed"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/store"
)

// compressFrom is the size from which responses are compressed, as upstream's.
const compressFrom = 128 << 10

var gzipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is valid
	}
	return w
}}

func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(part), ";"); name == "gzip" {
			return true
		}
	}
	return false
}

// writeCompressed writes a body as gzip.
func writeCompressed(w http.ResponseWriter, code int, body []byte) {
	h := w.Header()
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
	w.WriteHeader(code)
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(w)
	if _, err := z.Write(body); err != nil {
		return // the client has gone
	}
	_ = z.Close()
}

// respondCompressed answers with a body that is compressed already.
func (s *Server) respondCompressed(w http.ResponseWriter, r *http.Request, contentType string, body packed.Body) {
	h := w.Header()
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
	s.beginBody(w, r, contentType, body.Size())
	if r.Method != http.MethodHead {
		_, _ = body.WriteTo(w) // a client that went away is no error of the server's
	}
}

// packed is the list as gzip, put together from compressed runs of items that are kept.
func (p *page) packed(v *version, f negotiate.Format, cache *packed.Cache) (packed.Body, error) {
	form := v.gvk.String() + " " + f.ContentType()
	if f == negotiate.Protobuf {
		return p.packedMessages(v, form, cache)
	}
	head, err := p.textHead(v)
	if err != nil {
		return packed.Body{}, err
	}
	first, err := p.listed(v, p.entries[0])
	if err != nil {
		return packed.Body{}, err
	}
	raw, err := json.Marshal(first)
	if err != nil {
		return packed.Body{}, err
	}
	// The first item stands apart, so that every other one can begin with its comma.
	rest := packedItems{p.entries[1:], func(dst []byte, e *store.Entry) ([]byte, error) {
		o, err := p.listed(v, e)
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(o)
		return append(append(dst, ','), raw...), err
	}}
	return cache.Gzip(form, func(int) []byte { return append(head, raw...) }, rest, []byte("]}\n"))
}

func (p *page) packedMessages(v *version, form string, cache *packed.Cache) (packed.Body, error) {
	messages, err := p.messagesOf(v)
	if err != nil {
		return packed.Body{}, err
	}
	head := func(size int) []byte { return p.protobufHead(v, size) }
	items := packedItems{p.entries, func(dst []byte, e *store.Entry) ([]byte, error) {
		return wire.AppendListItem(dst, messages(e)), nil
	}}
	return cache.Gzip(form, head, items, wire.AppendEnvelopeTail(nil))
}

// packedItems are entries as items of a compressed list.
type packedItems struct {
	entries []*store.Entry
	encode  func(dst []byte, e *store.Entry) ([]byte, error)
}

// Len implements packed.Items.
func (i packedItems) Len() int { return len(i.entries) }

// ID implements packed.Items.
func (i packedItems) ID(n int) (string, int64) { return i.entries[n].Key(), i.entries[n].Revision() }

// Append implements packed.Items.
func (i packedItems) Append(dst []byte, n int) ([]byte, error) { return i.encode(dst, i.entries[n]) }
