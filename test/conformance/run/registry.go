package main

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
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// imageRegistry stands in for registry.k8s.io: some specs pull an image although it is there. It listens where all nodes of the
// cluster reach it, and nobody else: on the address that the first node has on the network between them. Whoever comes by the
// network may only read.
type imageRegistry struct {
	dir    string
	server *http.Server
	done   chan struct{}
}

// openRegistry starts a registry that has the images of all archives.
func openRegistry(ctx context.Context, address string, archives []string) (*imageRegistry, error) {
	dir, err := os.MkdirTemp("", "conformance-registry-")
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0)
	handler := registry.New(registry.Logger(quiet), registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)))
	r := &imageRegistry{dir: dir, done: make(chan struct{}), server: &http.Server{Handler: readOnly(handler)}}
	listener, err := fill(ctx, handler, address, archives)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() {
		defer close(r.done)
		if err := r.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("the image registry: %v", err)
		}
	}()
	return r, nil
}

func (r *imageRegistry) close() error {
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

// fill pushes the images through a server of its own on loopback, and opens the address.
func fill(ctx context.Context, handler http.Handler, address string, archives []string) (net.Listener, error) {
	private := httptest.NewServer(handler)
	defer private.Close()
	for _, archive := range archives {
		if err := push(ctx, strings.TrimPrefix(private.URL, "http://"), archive); err != nil {
			return nil, fmt.Errorf("push %s: %w", archive, err)
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open the image registry: %w", err)
	}
	return listener, nil
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

// nodeAddress is the address of the first node on the network of the cluster's nodes.
func (o options) nodeAddress(ctx context.Context) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, o.clipper, "kubectl", "--kubeconfig", clusterKubeconfig, "get", "node", strings.ToLower(host),
		"-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`).Output()
	if err != nil {
		return "", fmt.Errorf("ask for the address of node %s: %w", host, err)
	}
	address := strings.TrimSpace(string(out))
	if net.ParseIP(address) == nil {
		return "", fmt.Errorf("node %s has no address: %q", host, address)
	}
	return address, nil
}

// registryPort is the registry's on the network between the nodes, where nothing else listens.
const registryPort = "5000"

// mirror writes the configuration by which nodes pull from the registry.
func (o options) mirror(address string) (file string, err error) {
	file = filepath.Join(o.out, "registries.yaml")
	text := fmt.Sprintf("registries:\n- host: registry.k8s.io\n  mirrors:\n  - url: http://%s\n  mirrorsOnly: true\n", address)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return "", err
	}
	return filepath.Abs(file)
}
