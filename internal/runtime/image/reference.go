package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
)

// normalize gives a reference its full form: with registry, and with the tag latest if it has neither
// tag nor digest. A reference with both keeps the digest.
func normalize(name string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %v", ErrInvalidReference, name, err)
	}
	return named, nil
}

// imageID tells whether a name is an image's ID or the beginning of one, and returns its hexadecimal part.
func imageID(name string) (string, bool) {
	hex, prefixed := strings.CutPrefix(name, "sha256:")
	if hex == "" || len(hex) > 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", false
	}
	return hex, prefixed || len(hex) >= 12
}

func repoDigest(named reference.Named, manifest digest.Digest) string {
	return reference.TrimNamed(named).Name() + "@" + manifest.String()
}
