package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobRetries bounds how often a transfer that broke is taken up where it stopped.
const blobRetries = 5

// blobReader reads a layer from a registry, goes on after a broken connection, and fails at the end if
// the content does not have its digest.
type blobReader struct {
	ctx      context.Context
	repo     *repository
	layer    ocispec.Descriptor
	body     io.ReadCloser
	offset   int64
	retries  int
	verifier digest.Verifier
}

func (r *repository) blob(ctx context.Context, layer ocispec.Descriptor) (io.ReadCloser, error) {
	if err := layer.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	response, err := r.get(ctx, "blobs", layer.Digest.String(), 0, 0)
	if err != nil {
		return nil, err
	}
	return &blobReader{ctx: ctx, repo: r, layer: layer, body: response.Body, verifier: layer.Digest.Verifier()}, nil
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	_, _ = b.verifier.Write(p[:n])
	b.offset += int64(n)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) && (b.layer.Size <= 0 || b.offset >= b.layer.Size) {
		if !b.verifier.Verified() {
			return n, fmt.Errorf("content of %s does not have that digest", b.layer.Digest)
		}
		return n, io.EOF
	}
	if rerr := b.resume(err); rerr != nil {
		return n, rerr
	}
	return n, nil
}

// resume opens the transfer again where it broke.
func (b *blobReader) resume(cause error) error {
	b.body.Close()
	for b.retries < blobRetries {
		b.retries++
		if b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		response, err := b.repo.get(b.ctx, "blobs", b.layer.Digest.String(), b.offset, b.layer.Size)
		if err == nil {
			b.body = response.Body
			return nil
		}
		cause = err
	}
	return fmt.Errorf("fetch %s: broken off at byte %d: %w", b.layer.Digest, b.offset, cause)
}

func (b *blobReader) Close() error { return b.body.Close() }
