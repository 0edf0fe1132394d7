package runtime

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"clipper.dev/clipper/internal/keeper/wire"
	"clipper.dev/clipper/internal/runtime/image"
)

// coded gives an error the code by which clients tell it from others.
func coded(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Unknown
	var kept *wire.Error
	switch {
	case errors.Is(err, image.ErrNotFound):
		code = codes.NotFound
	case errors.Is(err, image.ErrInvalidReference):
		code = codes.InvalidArgument
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.As(err, &kept):
		code = keeperCodes[kept.Code]
	}
	return status.Error(code, err.Error())
}

var keeperCodes = map[wire.Code]codes.Code{
	wire.CodeInternal:   codes.Unknown,
	wire.CodeNotFound:   codes.NotFound,
	wire.CodeExists:     codes.AlreadyExists,
	wire.CodeNotRunning: codes.FailedPrecondition,
	wire.CodeInvalid:    codes.InvalidArgument,
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func notFound(format string, args ...any) error {
	return status.Errorf(codes.NotFound, format, args...)
}
