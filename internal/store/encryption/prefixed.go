package encryption

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"clipper.dev/clipper/internal/store"
)

// provided is one provider's key. The prefix of identity is empty.
type provided struct {
	prefix      string
	transformer store.Transformer
}

// prefixed tries keys in order by the prefix of a value.
type prefixed []provided

var _ store.Transformer = prefixed{}

// FromStorage decrypts a value with the key that its prefix names. It's stale unless that is the first.
func (p prefixed) FromStorage(ctx context.Context, key string, data []byte) ([]byte, bool, error) {
	var errs []error
	for i, t := range p {
		if !bytes.HasPrefix(data, []byte(t.prefix)) {
			continue
		}
		out, stale, err := t.transformer.FromStorage(ctx, key, data[len(t.prefix):])
		if err == nil {
			return out, stale || i != 0, nil
		}
		if t.prefix != "" { // what isn't meant to be plain is another's
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, false, utilerrors.NewAggregate(errs)
	}
	return nil, false, p.unknown(data)
}

// methods are the providers whose keys have names, and what errors call them.
var methods = map[string]string{"k8s:enc:secretbox:v1:": "Secretbox", "k8s:enc:aescbc:v1:": "AES", "k8s:enc:aesgcm:v1:": "AES"}

// unknown tells what no key is known for.
func (p prefixed) unknown(data []byte) error {
	for prefix, method := range methods {
		provides := func(k provided) bool { return strings.HasPrefix(k.prefix, prefix) }
		if bytes.HasPrefix(data, []byte(prefix)) && slices.ContainsFunc(p, provides) {
			return fmt.Errorf("no matching key was found for the provided %s transformer", method)
		}
	}
	return errors.New("no matching prefix found")
}

// ToStorage encrypts a value with the first key.
func (p prefixed) ToStorage(ctx context.Context, key string, data []byte) ([]byte, error) {
	first := p[0]
	out, err := first.transformer.ToStorage(ctx, key, data)
	if err != nil || first.prefix == "" {
		return out, err
	}
	return append([]byte(first.prefix), out...), nil
}

// identity stores values as they are, and refuses to take ciphertext for a value.
type identity struct{}

func (identity) FromStorage(_ context.Context, _ string, data []byte) ([]byte, bool, error) {
	if bytes.HasPrefix(data, []byte("k8s:enc:")) {
		return nil, false, errors.New("identity transformer tried to read encrypted data")
	}
	return data, false, nil
}

func (identity) ToStorage(_ context.Context, _ string, data []byte) ([]byte, error) { return data, nil }
