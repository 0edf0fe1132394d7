package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/image"
)

// ListImages lists images.
func (rt *Runtime) ListImages(_ context.Context, request *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	list, err := rt.listImages(request.GetFilter())
	return &runtimeapi.ListImagesResponse{Images: list}, err
}

// StreamImages lists images piece by piece.
func (rt *Runtime) StreamImages(request *runtimeapi.StreamImagesRequest, stream runtimeapi.ImageService_StreamImagesServer) error {
	list, err := rt.listImages(request.GetFilter())
	if err != nil {
		return coded(err)
	}
	return inPieces(list, func(piece []*runtimeapi.Image) error {
		return stream.Send(&runtimeapi.StreamImagesResponse{Images: piece})
	})
}

func (rt *Runtime) listImages(filter *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	if name := filter.GetImage().GetImage(); name != "" {
		img, err := rt.images.Get(name)
		if errors.Is(err, image.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []*runtimeapi.Image{describe(img)}, nil
	}
	var list []*runtimeapi.Image
	for _, img := range rt.images.List() {
		list = append(list, describe(img))
	}
	return list, nil
}

func describe(img *image.Image) *runtimeapi.Image {
	described := &runtimeapi.Image{
		Id: img.ID, RepoTags: img.RepoTags, RepoDigests: img.RepoDigests, Size: uint64(img.Size), Pinned: img.Pinned,
	}
	user, _, _ := strings.Cut(img.Config.Config.User, ":")
	if uid, err := strconv.ParseInt(user, 10, 64); err == nil {
		described.Uid = &runtimeapi.Int64Value{Value: uid}
	} else {
		described.Username = user
	}
	return described
}

// ImageStatus tells about an image; one that is not there has no status, which is no error.
func (rt *Runtime) ImageStatus(_ context.Context, request *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	img, err := rt.images.Get(request.GetImage().GetImage())
	if errors.Is(err, image.ErrNotFound) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	response := &runtimeapi.ImageStatusResponse{Image: describe(img)}
	if request.GetVerbose() {
		info, err := json.Marshal(map[string]any{"chainID": chainID(img), "imageSpec": img.Config})
		if err != nil {
			return nil, fmt.Errorf("encode image info: %w", err)
		}
		response.Info = map[string]string{"info": string(info)}
	}
	return response, nil
}

func chainID(img *image.Image) string {
	if len(img.Layers) == 0 {
		return ""
	}
	return img.Layers[len(img.Layers)-1].ChainID.String()
}

// PullImage fetches an image.
func (rt *Runtime) PullImage(ctx context.Context, request *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	var auth *image.Auth
	if from := request.GetAuth(); from != nil {
		auth = &image.Auth{
			Username: from.GetUsername(), Password: from.GetPassword(), Auth: from.GetAuth(),
			IdentityToken: from.GetIdentityToken(), RegistryToken: from.GetRegistryToken(),
		}
	}
	img, err := rt.images.Pull(ctx, request.GetImage().GetImage(), rt.cfg.Registries, auth)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.ID}, nil
}

// RemoveImage forgets an image.
func (rt *Runtime) RemoveImage(ctx context.Context, request *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	return &runtimeapi.RemoveImageResponse{}, rt.images.Remove(ctx, request.GetImage().GetImage())
}

// ImageFsInfo tells how much images and containers take on the disk.
func (rt *Runtime) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	now := time.Now().UnixNano()
	bytes, inodes := rt.images.Usage()
	own := &runtimeapi.FilesystemUsage{
		Timestamp: now, FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: rt.cfg.StateDir},
		UsedBytes: &runtimeapi.UInt64Value{}, InodesUsed: &runtimeapi.UInt64Value{},
	}
	for _, record := range rt.containerRecords(everyContainer) {
		used := rt.usage.of(record.ID, rt.upperDir(record.ID))
		own.UsedBytes.Value += used.bytes
		own.InodesUsed.Value += used.inodes
	}
	return &runtimeapi.ImageFsInfoResponse{
		ImageFilesystems: []*runtimeapi.FilesystemUsage{{
			Timestamp: now, FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: rt.cfg.StateDir},
			UsedBytes: &runtimeapi.UInt64Value{Value: uint64(bytes)}, InodesUsed: &runtimeapi.UInt64Value{Value: uint64(inodes)},
		}},
		ContainerFilesystems: []*runtimeapi.FilesystemUsage{own},
	}, nil
}
