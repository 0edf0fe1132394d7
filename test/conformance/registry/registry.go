// Package registry stands in for registry.k8s.io while upstream's suites run: some specs pull an image although it is there. Whoever reaches it may only
// read.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Registry serves the images of archives.
type Registry struct {
	dir    string
	server *http.Server
	done   chan struct{}
}

// Open makes a registry that has the images of all archives, and serves it on what listen opens.
func Open(ctx context.Context, listen func() (net.Listener, error), archives []string) (*Registry, error) {
	dir, err := os.MkdirTemp("", "conformance-registry-")
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0)
	handler := registry.New(registry.Logger(quiet), registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)))
	r := &Registry{dir: dir, done: make(chan struct{}), server: &http.Server{Handler: readOnly(handler)}}
	if err := fill(ctx, handler, archives); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	listener, err := listen()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the image registry: %w", err), os.RemoveAll(dir))
	}
	go func() {
		defer close(r.done)
		if err := r.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("the image registry: %v", err)
		}
	}()
	return r, nil
}

// Close ends the service.
func (r *Registry) Close() error {
	err := r.server.Close()
	<-r.done
	return errors.Join(err, os.RemoveAll(r.dir))
}

func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "this registry is for reading", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// fill pushes the images through a server of its own on loopback.
func fill(ctx context.Context, handler http.Handler, archives []string) error {
	private := httptest.NewServer(handler)
	defer private.Close()
	for _, archive := range archives {
		if err := push(ctx, strings.TrimPrefix(private.URL, "http://"), archive); err != nil {
			return fmt.Errorf("push %s: %w", archive, err)
		}
	}
	return nil
}

func push(ctx context.Context, host, archive string) error {
	open := tarball.Opener(func() (io.ReadCloser, error) { return os.Open(archive) })
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return err
	}
	for _, image := range manifest {
		for _, text := range image.RepoTags {
			tag, err := name.NewTag(text)
			if err != nil {
				return err
			}
			img, err := tarball.Image(open, &tag)
			if err != nil {
				return err
			}
			to, err := name.NewTag(host+"/"+tag.RepositoryStr()+":"+tag.TagStr(), name.Insecure)
			if err != nil {
				return err
			}
			if err := remote.Write(to, img, remote.WithContext(ctx)); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteMirrors writes the configuration by which nodes pull from the registry at an address.
func WriteMirrors(file, address string) error {
	text := fmt.Sprintf("registries:\n- host: registry.k8s.io\n  mirrors:\n  - url: http://%s\n  mirrorsOnly: true\n", address)
	return os.WriteFile(file, []byte(text), 0o644)
}
