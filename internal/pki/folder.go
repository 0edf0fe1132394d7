package pki

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"clipper.dev/clipper/internal/durable"
)

// folder reads and writes PEM files. A file appears whole or not at all.
type folder string

func (d folder) path(name string) string { return filepath.Join(string(d), name) }

// write replaces a file atomically.
func (d folder) write(name string, data []byte, mode fs.FileMode) error {
	return WriteFile(d.path(name), data, mode)
}

// WriteFile replaces a file atomically and durably, making its folder (0700) when that is missing.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of %s: %w", path, err)
	}
	return durable.WriteFile(path, data, mode)
}

// writePair writes <name>.key and <name>.crt; the key first, so that a certificate never lies there without its key.
func (d folder) writePair(name string, certs []byte, key crypto.Signer) error {
	keyData, err := KeyPEM(key)
	if err != nil {
		return err
	}
	if err := d.write(name+".key", keyData, 0o600); err != nil {
		return err
	}
	return d.write(name+".crt", certs, 0o600)
}

// readPair reads what writePair wrote. The key is nil, without an error, when its file is missing.
func (d folder) readPair(name string) (*tls.Certificate, error) {
	data, err := os.ReadFile(d.path(name + ".crt"))
	if err != nil {
		return nil, err
	}
	certs, err := ParseCerts(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path(name+".crt"), err)
	}
	out := &tls.Certificate{Leaf: certs[0]}
	for _, c := range certs {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	key, err := d.readKey(name + ".key")
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if !samePublic(key.Public(), certs[0].PublicKey) {
		return nil, fmt.Errorf("the key in %s does not belong to the certificate beside it", d.path(name+".key"))
	}
	out.PrivateKey = key
	return out, nil
}

func (d folder) readKey(name string) (crypto.Signer, error) {
	data, err := os.ReadFile(d.path(name))
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path(name), err)
	}
	return key, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
