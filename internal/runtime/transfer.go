package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/image"
)

// The Container Runtime Interface has no call that brings an image without a registry. This private
// service beside it on the same socket has one: Import takes an archive in pieces and answers with names.
const (
	transferService = "clipper.runtime.v1.Images"
	importMethod    = "Import"
	importPiece     = 256 << 10
)

func registerImages(server *grpc.Server, store *image.Store) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: transferService,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: importMethod, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return serveImport(store, stream) },
		}},
	}, struct{}{})
}

func serveImport(store *image.Store, stream grpc.ServerStream) error {
	names, err := store.Import(stream.Context(), &pieceReader{stream: stream})
	if err != nil {
		return coded(err)
	}
	values := make([]*structpb.Value, len(names))
	for i, name := range names {
		values[i] = structpb.NewStringValue(name)
	}
	return stream.SendMsg(&structpb.ListValue{Values: values})
}

// pieceReader reads an archive from a stream of pieces.
type pieceReader struct {
	stream grpc.ServerStream
	rest   []byte
}

func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		var piece wrapperspb.BytesValue
		if err := r.stream.RecvMsg(&piece); err != nil {
			return 0, err
		}
		r.rest = piece.GetValue()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// ImageClient works on the images of a runtime that serves on a socket.
type ImageClient struct {
	conn *grpc.ClientConn
}

// DialImages makes a client for the runtime behind a socket.
func DialImages(socket string) (*ImageClient, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)))
	if err != nil {
		return nil, fmt.Errorf("connect to the runtime at %s: %w", socket, err)
	}
	return &ImageClient{conn}, nil
}

// Close ends the connection.
func (c *ImageClient) Close() error { return c.conn.Close() }

// Import gives the runtime an archive of images and returns their names.
func (c *ImageClient) Import(ctx context.Context, archive io.Reader) ([]string, error) {
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/"+transferService+"/"+importMethod)
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	if err := sendArchive(stream, archive); err != nil {
		return nil, err
	}
	var answer structpb.ListValue
	if err := stream.RecvMsg(&answer); err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	var names []string
	for _, value := range answer.GetValues() {
		names = append(names, value.GetStringValue())
	}
	return names, nil
}

func sendArchive(stream grpc.ClientStream, archive io.Reader) error {
	buffer := make([]byte, importPiece)
	for {
		n, err := archive.Read(buffer)
		if n > 0 {
			if serr := stream.SendMsg(wrapperspb.Bytes(buffer[:n])); serr != nil {
				break // the server has answered already; RecvMsg tells what
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
	}
	return stream.CloseSend()
}

// List returns all images.
func (c *ImageClient) List(ctx context.Context) ([]*runtimeapi.Image, error) {
	response, err := runtimeapi.NewImageServiceClient(c.conn).ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return response.GetImages(), nil
}

// Remove removes an image by name or ID; that it is not there is an error here.
func (c *ImageClient) Remove(ctx context.Context, name string) error {
	client := runtimeapi.NewImageServiceClient(c.conn)
	spec := &runtimeapi.ImageSpec{Image: name}
	found, err := client.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil {
		return fmt.Errorf("remove image %s: %w", name, err)
	}
	if found.GetImage() == nil {
		return fmt.Errorf("remove image %s: %w", name, image.ErrNotFound)
	}
	if _, err := client.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: spec}); err != nil {
		return fmt.Errorf("remove image %s: %w", name, err)
	}
	return nil
}
