package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The numbers of the fields that this package touches. Every object has its ObjectMeta in field 1.
const (
	fieldMetadata        = 1
	fieldResourceVersion = 6

	wireVarint = 0
	wireI64    = 1
	wireBytes  = 2
	wireI32    = 5
)

var errMalformed = errors.New("malformed protobuf message")

// field is one field of a message: its key and value lie in msg[start:end], the payload of a bytes field in msg[body:end].
type field struct {
	number           int
	kind             int
	start, body, end int
}

// next reads the field that begins at offset.
func next(msg []byte, offset int) (field, error) {
	key, n := binary.Uvarint(msg[offset:])
	if n <= 0 || key>>3 == 0 {
		return field{}, errMalformed
	}
	f := field{number: int(key >> 3), kind: int(key & 7), start: offset, body: offset + n}
	size := 0
	switch f.kind {
	case wireVarint:
		if _, size = binary.Uvarint(msg[f.body:]); size <= 0 {
			return field{}, errMalformed
		}
	case wireI64:
		size = 8
	case wireI32:
		size = 4
	case wireBytes:
		length, n := binary.Uvarint(msg[f.body:])
		if n <= 0 || length > uint64(len(msg)) {
			return field{}, errMalformed
		}
		f.body += n
		size = int(length)
	default:
		return field{}, fmt.Errorf("%w: wire type %d", errMalformed, f.kind)
	}
	f.end = f.body + size
	if f.end > len(msg) {
		return field{}, errMalformed
	}
	return f, nil
}

// find returns the first field with a number; ok is false if there is none.
func find(msg []byte, number int) (f field, ok bool, err error) {
	for offset := 0; offset < len(msg); offset = f.end {
		if f, err = next(msg, offset); err != nil {
			return field{}, false, err
		}
		if f.number == number {
			return f, true, nil
		}
	}
	return field{}, false, nil
}

// SetResourceVersion returns a copy of an object's message with another metadata.resourceVersion. The field keeps its
// place, so that equal objects stay equal bytes.
func SetResourceVersion(msg []byte, version string) ([]byte, error) {
	meta, ok, err := find(msg, fieldMetadata)
	if err != nil {
		return nil, fmt.Errorf("read the object's metadata: %w", err)
	}
	if !ok || meta.kind != wireBytes {
		return nil, fmt.Errorf("read the object's metadata: %w", errMalformed)
	}
	inner := msg[meta.body:meta.end]
	old, err := place(inner, fieldResourceVersion)
	if err != nil {
		return nil, fmt.Errorf("read the object's resourceVersion: %w", err)
	}
	size := len(inner) - (old.end - old.start) + BytesFieldSize(len(version))
	out := make([]byte, 0, len(msg)-(meta.end-meta.start)+BytesFieldSize(size))
	out = append(out, msg[:meta.start]...)
	out = appendKey(out, fieldMetadata, size)
	out = append(out, inner[:old.start]...)
	out = appendKey(out, fieldResourceVersion, len(version))
	out = append(out, version...)
	out = append(out, inner[old.end:]...)
	return append(out, msg[meta.end:]...), nil
}

// SameAt tells whether an object's message is another one when it has that one's metadata.resourceVersion.
func SameAt(version string, msg, other []byte) bool {
	meta, ok, err := find(msg, fieldMetadata)
	if err != nil || !ok || !bytes.HasSuffix(other, msg[meta.end:]) { // what follows the metadata is what mostly changes
		return false
	}
	made, err := SetResourceVersion(msg, version)
	return err == nil && bytes.Equal(made, other)
}

// place finds a field, or the empty place where it belongs among fields in ascending order.
func place(msg []byte, number int) (field, error) {
	for offset := 0; offset < len(msg); {
		f, err := next(msg, offset)
		if err != nil {
			return field{}, err
		}
		if f.number == number {
			return f, nil
		}
		if f.number > number {
			return field{start: f.start, end: f.start}, nil
		}
		offset = f.end
	}
	return field{start: len(msg), end: len(msg)}, nil
}

// VarintSize is how many bytes a varint takes.
func VarintSize(v int) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// BytesFieldSize is how many bytes a field (numbered below 16) with n bytes of payload takes.
func BytesFieldSize(n int) int { return 1 + VarintSize(n) + n }

// appendKey begins a bytes field.
func appendKey(dst []byte, number, size int) []byte {
	dst = append(dst, byte(number<<3|wireBytes))
	return binary.AppendUvarint(dst, uint64(size))
}

func appendString(dst []byte, number int, s string) []byte {
	return append(appendKey(dst, number, len(s)), s...)
}
