// Package demo carries the demonstration image inside the binary, so that the quick start works without a network.
//
//	names, err := store.Import(ctx, demo.Archive())
//
// The image, clipper.dev/demo:v1 and :v2, holds one static program (server/). "make" builds the program
// and packs it (pack/) into a docker-archive that go:embed takes in.
package demo
