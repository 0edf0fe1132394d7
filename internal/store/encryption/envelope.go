package encryption

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxKeyIDBytes       = 1 << 10
	maxSourceBytes      = 1 << 10
	maxAnnotationsBytes = 32 << 10
)

// How an envelope's data key follows from its source.
const (
	sourceIsKey  = 0 // it is the key itself
	sourceIsSeed = 1 // the key is derived from it, for each value another
)

// envelope is a value that was encrypted by way of a KMS plugin: upstream's EncryptedObject.
type envelope struct {
	data        []byte
	keyID       string // of the plugin's key, which encrypted source
	source      []byte // the data key or its seed, encrypted
	annotations map[string][]byte
	kind        uint64 // sourceIsKey, sourceIsSeed
}

// The numbers of an EncryptedObject's fields.
const (
	fieldData protowire.Number = 1 + iota
	fieldKeyID
	fieldSource
	fieldAnnotations
	fieldKind
)

func (e *envelope) marshal() ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	bytesField := func(out []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(out, n, protowire.BytesType), v)
	}
	out := bytesField(make([]byte, 0, len(e.data)+len(e.source)+len(e.keyID)+64), fieldData, e.data)
	out = bytesField(out, fieldKeyID, []byte(e.keyID))
	out = bytesField(out, fieldSource, e.source)
	for _, k := range slices.Sorted(maps.Keys(e.annotations)) {
		entry := bytesField(nil, 1, []byte(k))
		out = bytesField(out, fieldAnnotations, bytesField(entry, 2, e.annotations[k]))
	}
	if e.kind != 0 {
		out = protowire.AppendVarint(protowire.AppendTag(out, fieldKind, protowire.VarintType), e.kind)
	}
	return out, nil
}

func unmarshalEnvelope(data []byte) (*envelope, error) {
	e := &envelope{}
	err := eachField(data, func(n protowire.Number, v []byte, number uint64) error {
		switch n {
		case fieldData:
			e.data = v
		case fieldKeyID:
			e.keyID = string(v)
		case fieldSource:
			e.source = v
		case fieldKind:
			e.kind = number
		case fieldAnnotations:
			var key string
			var value []byte
			err := eachField(v, func(n protowire.Number, v []byte, _ uint64) error {
				switch n {
				case 1:
					key = string(v)
				case 2:
					value = v
				}
				return nil
			})
			if err != nil {
				return err
			}
			if e.annotations == nil {
				e.annotations = map[string][]byte{}
			}
			e.annotations[key] = value
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, e.validate()
}

// eachField calls fn for each field of a protobuf message, with its bytes or its number.
func eachField(data []byte, fn func(n protowire.Number, v []byte, number uint64) error) error {
	for len(data) > 0 {
		n, typ, size := protowire.ConsumeTag(data)
		if size < 0 {
			return protowire.ParseError(size)
		}
		data = data[size:]
		var v []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			v, size = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(data)
		default:
			size = protowire.ConsumeFieldValue(n, typ, data)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		data = data[size:]
		if err := fn(n, v, number); err != nil {
			return err
		}
	}
	return nil
}

func (e *envelope) validate() error {
	if e.kind > sourceIsSeed {
		return fmt.Errorf("unknown encryptedDEKSourceType: %d", e.kind)
	}
	if len(e.data) == 0 {
		return errors.New("encrypted data is empty")
	}
	switch n := len(e.source); {
	case n == 0:
		return errors.New("failed to validate encrypted DEK source: encrypted DEK source is empty")
	case n > maxSourceBytes:
		return fmt.Errorf("failed to validate encrypted DEK source: encrypted DEK source is %d bytes, which exceeds the max size of %d", n, maxSourceBytes)
	}
	if err := validateKeyID(e.keyID); err != nil {
		return fmt.Errorf("failed to validate key id: %w", err)
	}
	if err := validateAnnotations(e.annotations); err != nil {
		return fmt.Errorf("failed to validate annotations: %w", err)
	}
	return nil
}

func validateKeyID(id string) error {
	switch n := len(id); {
	case n == 0:
		return errors.New("keyID is empty")
	case n > maxKeyIDBytes:
		return fmt.Errorf("keyID is %d bytes, which exceeds the max size of %d", n, maxKeyIDBytes)
	}
	return nil
}

func validateAnnotations(all map[string][]byte) error {
	var errs []error
	total := 0
	for k, v := range all {
		if bad := validation.IsFullyQualifiedDomainName(field.NewPath("annotations"), k); len(bad) > 0 {
			errs = append(errs, bad.ToAggregate())
		}
		total += len(k) + len(v)
	}
	if total > maxAnnotationsBytes {
		errs = append(errs, fmt.Errorf("total size of annotations is %d, which exceeds the max size of %d", total, maxAnnotationsBytes))
	}
	return errors.Join(errs...)
}

// cacheKey names a data key's source.
func (e *envelope) cacheKey() string {
	var b strings.Builder
	part := func(s string) { fmt.Fprintf(&b, "%d:%s", len(s), s) }
	fmt.Fprintf(&b, "%d;", e.kind)
	part(e.keyID)
	part(string(e.source))
	for _, k := range slices.SortedFunc(maps.Keys(e.annotations), cmp.Compare[string]) {
		part(k)
		part(string(e.annotations[k]))
	}
	return b.String()
}
