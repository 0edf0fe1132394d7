package schema

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

//go:embed builtin.bin
var builtIn string

// BuiltIn returns the types of all built-in kinds.
func BuiltIn() (types []smd.TypeDef, kinds map[schema.GroupVersionKind]string, err error) {
	return Decode(builtIn)
}

var errCorrupt = errors.New("the encoded types are corrupt")

// A decoder reads what an encoder wrote. After an error everything it returns is zero.
type decoder struct {
	in            string
	strings       []string
	relationships map[string]*smd.ElementRelationship
	scalars       map[string]*smd.Scalar
	defaults      map[string]any
	err           error
}

// Decode reads encoded types. The result shares memory with its argument.
func Decode(encoded string) ([]smd.TypeDef, map[schema.GroupVersionKind]string, error) {
	d := &decoder{in: encoded, relationships: map[string]*smd.ElementRelationship{}, scalars: map[string]*smd.Scalar{}, defaults: map[string]any{}}
	d.strings = make([]string, d.count())
	for i := range d.strings {
		n := d.count()
		d.strings[i], d.in = d.in[:n], d.in[n:]
	}
	types := make([]smd.TypeDef, d.count())
	for i := range types {
		types[i].Name = *d.string()
		d.atom(&types[i].Atom)
	}
	n := d.count()
	kinds := make(map[schema.GroupVersionKind]string, n)
	for range n {
		gvk := schema.GroupVersionKind{Group: *d.string(), Version: *d.string(), Kind: *d.string()}
		kinds[gvk] = *d.string()
	}
	if d.err == nil && d.in != "" {
		d.err = errCorrupt
	}
	if d.err != nil {
		return nil, nil, d.err
	}
	return types, kinds, nil
}

func (d *decoder) number() uint64 {
	head := d.in
	if len(head) > binary.MaxVarintLen64 {
		head = head[:binary.MaxVarintLen64]
	}
	n, size := binary.Uvarint([]byte(head))
	if size <= 0 {
		d.err, d.in = errCorrupt, ""
		return 0
	}
	d.in = d.in[size:]
	return n
}

// count reads a number of things that follow, each of a byte at least.
func (d *decoder) count() int {
	n := d.number()
	if n > uint64(len(d.in)) {
		d.err, d.in = errCorrupt, ""
		return 0
	}
	return int(n)
}

// string returns a string of the table, which is shared.
func (d *decoder) string() *string {
	n := d.number()
	if n >= uint64(len(d.strings)) {
		d.err, d.in = errCorrupt, ""
		return new(string)
	}
	return &d.strings[n]
}

func (d *decoder) relationship() *smd.ElementRelationship {
	s := *d.string()
	if d.relationships[s] == nil {
		r := smd.ElementRelationship(s)
		d.relationships[s] = &r
	}
	return d.relationships[s]
}

func (d *decoder) scalar() *smd.Scalar {
	s := *d.string()
	if d.scalars[s] == nil {
		scalar := smd.Scalar(s)
		d.scalars[s] = &scalar
	}
	return d.scalars[s]
}

func (d *decoder) atom(a *smd.Atom) (bits uint64) {
	bits = d.number()
	if bits&hasScalar != 0 {
		a.Scalar = d.scalar()
	}
	if bits&hasList != 0 {
		a.List = &smd.List{}
		d.list(a.List)
	}
	if bits&hasMap != 0 {
		a.Map = &smd.Map{}
		d.mapping(a.Map)
	}
	return bits
}

func (d *decoder) reference(r *smd.TypeRef) {
	bits := d.atom(&r.Inlined)
	if bits&hasName != 0 {
		r.NamedType = d.string()
	}
	if bits&hasRelationship != 0 {
		r.ElementRelationship = d.relationship()
	}
}

func (d *decoder) list(l *smd.List) {
	d.reference(&l.ElementType)
	l.ElementRelationship = *d.relationship()
	if n := d.count(); n > 0 {
		l.Keys = make([]string, n)
	}
	for i := range l.Keys {
		l.Keys[i] = *d.string()
	}
}

func (d *decoder) mapping(m *smd.Map) {
	if n := d.count(); n > 0 {
		m.Fields = make([]smd.StructField, n)
	}
	for i := range m.Fields {
		f := &m.Fields[i]
		f.Name = *d.string()
		d.reference(&f.Type)
		f.Default = d.fallback()
	}
	d.reference(&m.ElementType)
	m.ElementRelationship = *d.relationship()
}

func (d *decoder) fallback() any {
	raw := *d.string()
	if raw == "" {
		return nil
	}
	if value, known := d.defaults[raw]; known {
		return value
	}
	var value any
	if err := json.Unmarshal([]byte(raw), &value); err != nil {
		d.err = fmt.Errorf("decode the default %s: %w", raw, err)
	}
	d.defaults[raw] = value
	return value
}
