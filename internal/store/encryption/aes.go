package encryption

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"clipper.dev/clipper/internal/store"
)

// gcm encrypts with AES-GCM under a random nonce and binds the value to its key in etcd: nonce, then the sealed value.
type gcm struct{ aead cipher.AEAD }

func newGCM(key []byte) (store.Transformer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &gcm{aead}, nil
}

func (g *gcm) FromStorage(_ context.Context, key string, data []byte) ([]byte, bool, error) {
	n := g.aead.NonceSize()
	if len(data) < n {
		return nil, false, errors.New("the stored data was shorter than the required size")
	}
	out, err := g.aead.Open(nil, data[:n], data[n:], []byte(key))
	return out, false, err
}

func (g *gcm) ToStorage(_ context.Context, key string, data []byte) ([]byte, error) {
	nonce := make([]byte, g.aead.NonceSize(), g.aead.NonceSize()+len(data)+g.aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("failed to write nonce for AES-GCM: %w", err)
	}
	return g.aead.Seal(nonce, nonce, data, []byte(key)), nil
}

// cbc encrypts with AES-CBC and PKCS #7 padding: vector, then ciphertext. It authenticates nothing, and is here for databases that have it.
type cbc struct{ block cipher.Block }

func newCBC(key []byte) (store.Transformer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &cbc{block}, nil
}

var errPadding = errors.New("invalid padding on input")

func (c *cbc) FromStorage(_ context.Context, _ string, data []byte) ([]byte, bool, error) {
	if len(data) < 2*aes.BlockSize {
		return nil, false, errors.New("the stored data was shorter than the required size")
	}
	if len(data)%aes.BlockSize != 0 {
		return nil, false, errors.New("the stored data is not a multiple of the block size")
	}
	out := bytes.Clone(data[aes.BlockSize:])
	cipher.NewCBCDecrypter(c.block, data[:aes.BlockSize]).CryptBlocks(out, out)
	pad := int(out[len(out)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, false, errPadding
	}
	for _, b := range out[len(out)-pad:] {
		if int(b) != pad {
			return nil, false, errPadding
		}
	}
	return out[:len(out)-pad], false, nil
}

func (c *cbc) ToStorage(_ context.Context, _ string, data []byte) ([]byte, error) {
	pad := aes.BlockSize - len(data)%aes.BlockSize
	out := make([]byte, aes.BlockSize+len(data)+pad)
	if _, err := rand.Read(out[:aes.BlockSize]); err != nil {
		return nil, fmt.Errorf("make a vector: %w", err)
	}
	copy(out[aes.BlockSize:], data)
	copy(out[aes.BlockSize+len(data):], bytes.Repeat([]byte{byte(pad)}, pad))
	cipher.NewCBCEncrypter(c.block, out[:aes.BlockSize]).CryptBlocks(out[aes.BlockSize:], out[aes.BlockSize:])
	return out, nil
}
