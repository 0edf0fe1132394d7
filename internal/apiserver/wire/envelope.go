package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// prefix begins every enveloped value, in etcd and on the wire.
var prefix = []byte("k8s\x00")

// EnvelopeSize is the size of a message of n bytes in its envelope.
func EnvelopeSize(apiVersion, kind string, n int) int {
	return len(prefix) + BytesFieldSize(typeSize(apiVersion, kind)) + BytesFieldSize(n) + 4
}

func typeSize(apiVersion, kind string) int {
	return BytesFieldSize(len(apiVersion)) + BytesFieldSize(len(kind))
}

// AppendEnvelopeHead appends what comes before the n bytes of the message; AppendEnvelopeTail what comes after them.
func AppendEnvelopeHead(dst []byte, apiVersion, kind string, n int) []byte {
	dst = append(dst, prefix...)
	dst = appendKey(dst, 1, typeSize(apiVersion, kind))
	dst = appendString(dst, 1, apiVersion)
	dst = appendString(dst, 2, kind)
	return appendKey(dst, 2, n)
}

// AppendEnvelopeTail appends the envelope's empty contentEncoding and contentType.
func AppendEnvelopeTail(dst []byte) []byte { return append(dst, 3<<3|wireBytes, 0, 4<<3|wireBytes, 0) }

// AppendEnvelope appends a message in its envelope.
func AppendEnvelope(dst []byte, apiVersion, kind string, msg []byte) []byte {
	dst = AppendEnvelopeHead(dst, apiVersion, kind, len(msg))
	return AppendEnvelopeTail(append(dst, msg...))
}

// Enveloped tells whether a value begins like an envelope.
func Enveloped(value []byte) bool { return bytes.HasPrefix(value, prefix) }

// OpenEnvelope returns the type and the message of an enveloped value. msg aliases value.
func OpenEnvelope(value []byte) (apiVersion, kind string, msg []byte, err error) {
	if !Enveloped(value) {
		return "", "", nil, fmt.Errorf("the value does not begin with %q", prefix)
	}
	body := value[len(prefix):]
	for offset := 0; offset < len(body); {
		f, err := next(body, offset)
		if err != nil {
			return "", "", nil, fmt.Errorf("read the envelope: %w", err)
		}
		offset = f.end
		switch f.number {
		case 1:
			if apiVersion, kind, err = openType(body[f.body:f.end]); err != nil {
				return "", "", nil, fmt.Errorf("read the envelope's type: %w", err)
			}
		case 2:
			msg = body[f.body:f.end]
		}
	}
	return apiVersion, kind, msg, nil
}

func openType(msg []byte) (apiVersion, kind string, err error) {
	for offset := 0; offset < len(msg); {
		f, err := next(msg, offset)
		if err != nil {
			return "", "", err
		}
		offset = f.end
		switch f.number {
		case 1:
			apiVersion = string(msg[f.body:f.end])
		case 2:
			kind = string(msg[f.body:f.end])
		}
	}
	return apiVersion, kind, nil
}

// ListMetaSize is the size of a list's metadata field.
func ListMetaSize(m *metav1.ListMeta) int { return BytesFieldSize(m.Size()) }

// AppendListMeta appends a list's metadata field.
func AppendListMeta(dst []byte, m *metav1.ListMeta) []byte {
	n := m.Size()
	dst = appendKey(dst, 1, n)
	at := len(dst)
	dst = append(dst, make([]byte, n)...)
	if _, err := m.MarshalTo(dst[at:]); err != nil {
		panic(err) // the buffer has exactly the size that the message asked for
	}
	return dst
}

// AppendListItem appends one item of a list.
func AppendListItem(dst, msg []byte) []byte { return append(appendKey(dst, 2, len(msg)), msg...) }

// WatchFrame is the frame of a watch event: four bytes of length and a metav1.WatchEvent whose object is enveloped.
func WatchFrame(eventType, apiVersion, kind string, msg []byte) []byte {
	object := EnvelopeSize(apiVersion, kind, len(msg))
	event := BytesFieldSize(len(eventType)) + BytesFieldSize(BytesFieldSize(object))
	dst := make([]byte, 0, 4+event)
	dst = binary.BigEndian.AppendUint32(dst, uint32(event))
	dst = appendString(dst, 1, eventType)
	dst = appendKey(dst, 2, BytesFieldSize(object))
	dst = appendKey(dst, 1, object)
	return AppendEnvelope(dst, apiVersion, kind, msg)
}
