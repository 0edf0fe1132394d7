package encryption

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"

	"clipper.dev/clipper/internal/store"
)

const (
	secretboxKeySize   = 32
	secretboxNonceSize = 24
)

// box encrypts with XSalsa20 and authenticates with Poly1305: nonce, then the sealed value.
type box struct{ key [secretboxKeySize]byte }

func newSecretbox(key []byte) (store.Transformer, error) {
	if len(key) != secretboxKeySize {
		return nil, fmt.Errorf("it has %d bytes and needs %d", len(key), secretboxKeySize)
	}
	return &box{key: [secretboxKeySize]byte(key)}, nil
}

func (b *box) FromStorage(_ context.Context, _ string, data []byte) ([]byte, bool, error) {
	if len(data) < secretbox.Overhead+secretboxNonceSize {
		return nil, false, errors.New("the stored data was shorter than the required size")
	}
	nonce := [secretboxNonceSize]byte(data)
	out, ok := secretbox.Open(nil, data[secretboxNonceSize:], &nonce, &b.key)
	if !ok {
		return nil, false, errors.New("the stored data was not encrypted with this key, or was changed")
	}
	return out, false, nil
}

func (b *box) ToStorage(_ context.Context, _ string, data []byte) ([]byte, error) {
	var nonce [secretboxNonceSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("make a nonce: %w", err)
	}
	return secretbox.Seal(nonce[:], data, &nonce, &b.key), nil
}
