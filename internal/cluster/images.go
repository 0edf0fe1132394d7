package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"clipper.dev/clipper/internal/runtime"
)

// Image is an image on a node.
type Image struct {
	Name  string
	ID    string
	Bytes int64
}

// sockets returns the sockets of the built-in runtimes of this machine's nodes, the first node's first.
func sockets(l Layout) ([]string, error) {
	nodes, err := nodesOf(l, 0)
	if err != nil {
		return nil, err
	}
	out := []string{l.RuntimeSocket()}
	for n := 2; n <= nodes; n++ {
		out = append(out, l.Node(n).RuntimeSocket())
	}
	out = slices.DeleteFunc(out, func(path string) bool { _, err := os.Stat(path); return err != nil })
	if len(out) == 0 {
		return nil, fmt.Errorf("no container runtime of cluster %s runs on this machine: start it with \"clipper up\"", l.Name)
	}
	return out, nil
}

// ImportImages imports the images of an archive on every node of this machine, and returns their names.
func ImportImages(ctx context.Context, l Layout, archive io.ReadSeeker) (names []string, err error) {
	all, err := sockets(l)
	if err != nil {
		return nil, err
	}
	for _, socket := range all {
		if _, err := archive.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		err := withImages(socket, func(c *runtime.ImageClient) (err error) {
			names, err = c.Import(ctx, archive)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// Images lists the images of the first node of this machine.
func Images(ctx context.Context, l Layout) ([]Image, error) {
	all, err := sockets(l)
	if err != nil {
		return nil, err
	}
	var out []Image
	err = withImages(all[0], func(c *runtime.ImageClient) error {
		list, err := c.List(ctx)
		for _, i := range list {
			for _, name := range i.GetRepoTags() {
				out = append(out, Image{Name: name, ID: i.GetId(), Bytes: int64(i.GetSize())})
			}
		}
		return err
	})
	return out, err
}

// RemoveImage removes an image from every node of this machine that has it.
func RemoveImage(ctx context.Context, l Layout, name string) error {
	all, err := sockets(l)
	if err != nil {
		return err
	}
	var errs []error
	for _, socket := range all {
		errs = append(errs, withImages(socket, func(c *runtime.ImageClient) error { return c.Remove(ctx, name) }))
	}
	return errors.Join(errs...)
}

func withImages(socket string, fn func(*runtime.ImageClient) error) error {
	c, err := runtime.DialImages(socket)
	if err != nil {
		return err
	}
	defer c.Close()
	err = fn(c)
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return errors.New(s.Message()) // People need not know that it came over gRPC.
	}
	return err
}
