package apiserver

import (
	"bytes"
	"encoding/json"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/store"
)

// sendPage answers with a list in the shape asked for.
func (s *Server) sendPage(w http.ResponseWriter, r *http.Request, v *version, p *page, m negotiate.Media) error {
	body, err := s.encodePage(r, v, p, m)
	if err != nil {
		return err
	}
	s.respond(w, r, http.StatusOK, m.Format.ContentType(), body)
	return nil
}

func (s *Server) encodePage(r *http.Request, v *version, p *page, m negotiate.Media) ([]byte, error) {
	if m.Shape == negotiate.AsIs && m.Format == negotiate.Protobuf {
		return p.protobuf(v)
	}
	if m.Shape == negotiate.AsIs {
		return p.text(v, m)
	}
	if err := unencodable(m); err != nil {
		return nil, err
	}
	hubs, err := p.objects()
	if err != nil {
		return nil, err
	}
	if m.Shape != negotiate.Table {
		return encodeObject(partialListOf(hubs, m.Meta, p.meta), m)
	}
	include, err := includeObject(r)
	if err != nil {
		return nil, err
	}
	table, err := newTable(v, m, include, hubs, &p.meta)
	if err != nil {
		return nil, err
	}
	return encodeObject(table, m)
}

func (p *page) objects() ([]api.Object, error) {
	out := make([]api.Object, len(p.entries))
	for i, e := range p.entries {
		o, err := objectOf(e)
		if err != nil {
			return nil, err
		}
		out[i] = o
	}
	return out, nil
}

// protobuf lays the cached messages one after the other into one buffer of the right size.
func (p *page) protobuf(v *version) ([]byte, error) {
	messages := (*store.Entry).Raw
	if !v.stable() {
		converted, err := p.messages(v)
		if err != nil {
			return nil, err
		}
		messages = func(e *store.Entry) []byte { return converted[e] }
	}
	size := wire.ListMetaSize(&p.meta)
	for _, e := range p.entries {
		size += wire.BytesFieldSize(len(messages(e)))
	}
	apiVersion := v.gvk.GroupVersion().String()
	out := make([]byte, 0, wire.EnvelopeSize(apiVersion, v.listKind, size))
	out = wire.AppendEnvelopeHead(out, apiVersion, v.listKind, size)
	out = wire.AppendListMeta(out, &p.meta)
	for _, e := range p.entries {
		out = wire.AppendListItem(out, messages(e))
	}
	return wire.AppendEnvelopeTail(out), nil
}

func (p *page) messages(v *version) (map[*store.Entry][]byte, error) {
	out := make(map[*store.Entry][]byte, len(p.entries))
	for _, e := range p.entries {
		msg, err := documentOf(e).message(v)
		if err != nil {
			return nil, err
		}
		out[e] = msg
	}
	return out, nil
}

// text is the list as JSON or YAML. Items carry no apiVersion and kind, as upstream's don't.
func (p *page) text(v *version, m negotiate.Media) ([]byte, error) {
	head, err := json.Marshal(struct {
		Kind       string          `json:"kind"`
		APIVersion string          `json:"apiVersion"`
		Metadata   metav1.ListMeta `json:"metadata"`
	}{v.listKind, v.gvk.GroupVersion().String(), p.meta})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Write(head[:len(head)-1])
	out.WriteString(`,"items":[`)
	encoder := json.NewEncoder(&out)
	for i, e := range p.entries {
		if i > 0 {
			out.WriteByte(',')
		}
		o, err := objectOf(e)
		if err != nil {
			return nil, err
		}
		if o, err = v.fromHub(o); err != nil {
			return nil, err
		}
		if err := encoder.Encode(o); err != nil {
			return nil, err
		}
		out.Truncate(out.Len() - 1) // the encoder's newline
	}
	out.WriteString("]}\n")
	switch {
	case m.Format == negotiate.YAML:
		return yaml.JSONToYAML(out.Bytes())
	case m.Pretty:
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, bytes.TrimSpace(out.Bytes()), "", "  "); err != nil {
			return nil, err
		}
		return pretty.Bytes(), nil
	}
	return out.Bytes(), nil
}
