package schema

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// What an atom or a reference has, as bits.
const (
	hasScalar = 1 << iota
	hasList
	hasMap
	hasName
	hasRelationship
)

// An encoder writes types as numbers that refer to a table of strings.
type encoder struct {
	out     []byte
	numbers map[string]uint64
	strings []string
	err     error
}

// Encode writes types, and the type of each kind of object, in the form that Decode reads.
func Encode(types []smd.TypeDef, kinds map[schema.GroupVersionKind]string) ([]byte, error) {
	e := &encoder{numbers: map[string]uint64{}}
	types = slices.SortedFunc(slices.Values(types), func(a, b smd.TypeDef) int { return strings.Compare(a.Name, b.Name) })
	e.number(uint64(len(types)))
	for i := range types {
		e.string(types[i].Name)
		e.atom(&types[i].Atom, 0)
	}
	e.number(uint64(len(kinds)))
	for _, gvk := range slices.SortedFunc(maps.Keys(kinds), func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) }) {
		e.string(gvk.Group)
		e.string(gvk.Version)
		e.string(gvk.Kind)
		e.string(kinds[gvk])
	}
	table := &encoder{}
	table.number(uint64(len(e.strings)))
	for _, s := range e.strings {
		table.number(uint64(len(s)))
		table.out = append(table.out, s...)
	}
	return append(table.out, e.out...), e.err
}

func (e *encoder) number(n uint64) { e.out = binary.AppendUvarint(e.out, n) }

func (e *encoder) string(s string) {
	n, known := e.numbers[s]
	if !known {
		n = uint64(len(e.strings))
		e.numbers[s] = n
		e.strings = append(e.strings, s)
	}
	e.number(n)
}

func (e *encoder) atom(a *smd.Atom, bits uint64) {
	if a.Scalar != nil {
		bits |= hasScalar
	}
	if a.List != nil {
		bits |= hasList
	}
	if a.Map != nil {
		bits |= hasMap
	}
	e.number(bits)
	if a.Scalar != nil {
		e.string(string(*a.Scalar))
	}
	if a.List != nil {
		e.list(a.List)
	}
	if a.Map != nil {
		e.mapping(a.Map)
	}
}

func (e *encoder) reference(r *smd.TypeRef) {
	bits := uint64(0)
	if r.NamedType != nil {
		bits |= hasName
	}
	if r.ElementRelationship != nil {
		bits |= hasRelationship
	}
	e.atom(&r.Inlined, bits)
	if r.NamedType != nil {
		e.string(*r.NamedType)
	}
	if r.ElementRelationship != nil {
		e.string(string(*r.ElementRelationship))
	}
}

func (e *encoder) list(l *smd.List) {
	e.reference(&l.ElementType)
	e.string(string(l.ElementRelationship))
	e.number(uint64(len(l.Keys)))
	for _, key := range l.Keys {
		e.string(key)
	}
}

func (e *encoder) mapping(m *smd.Map) {
	if len(m.Unions) > 0 {
		e.err = fmt.Errorf("unions can't be encoded: %v", m.Unions)
	}
	fields := slices.SortedFunc(slices.Values(m.Fields), func(a, b smd.StructField) int { return strings.Compare(a.Name, b.Name) })
	e.number(uint64(len(fields)))
	for i := range fields {
		e.string(fields[i].Name)
		e.reference(&fields[i].Type)
		e.fallback(fields[i].Default)
	}
	e.reference(&m.ElementType)
	e.string(string(m.ElementRelationship))
}

// fallback writes a field's default: JSON, or nothing.
func (e *encoder) fallback(value any) {
	if value == nil {
		e.string("")
		return
	}
	raw, err := json.Marshal(value)
	if err != nil {
		e.err = fmt.Errorf("encode the default %v: %w", value, err)
		return
	}
	e.string(string(raw))
}
