package encryption

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"clipper.dev/clipper/internal/store"
)

const (
	seedBytes    = 32
	infoBytes    = 32
	derivedBytes = 32
)

// seed encrypts every value with a key of its own, which HKDF derives from it and from random bytes: those bytes, then as AES-GCM does.
type seed []byte

func newSeed(s []byte) (store.Transformer, error) {
	if len(s) < seedBytes {
		return nil, fmt.Errorf("invalid seed length %d used for key generation", len(s))
	}
	return seed(s), nil
}

func (s seed) derive(info []byte) (store.Transformer, error) {
	key, err := hkdf.Expand(sha256.New, s, string(info), derivedBytes)
	if err != nil {
		return nil, fmt.Errorf("failed to KDF expand seed with info: %w", err)
	}
	return newGCM(key)
}

func (s seed) FromStorage(ctx context.Context, key string, data []byte) ([]byte, bool, error) {
	if len(data) < infoBytes {
		return nil, false, errors.New("the stored data was shorter than the required size")
	}
	t, err := s.derive(data[:infoBytes])
	if err != nil {
		return nil, false, err
	}
	return t.FromStorage(ctx, key, data[infoBytes:])
}

func (s seed) ToStorage(ctx context.Context, key string, data []byte) ([]byte, error) {
	info := make([]byte, infoBytes)
	if _, err := rand.Read(info); err != nil {
		return nil, fmt.Errorf("failed to generate info for KDF: %w", err)
	}
	t, err := s.derive(info)
	if err != nil {
		return nil, err
	}
	out, err := t.ToStorage(ctx, key, data)
	if err != nil {
		return nil, err
	}
	return append(info, out...), nil
}
