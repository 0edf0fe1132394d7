package demo

import (
	"embed"
	"errors"
	"io"
)

// Images are the names under which the archive's images are imported.
var Images = []string{"clipper.dev/demo:v1", "clipper.dev/demo:v2"}

//go:embed all:image
var files embed.FS

// Archive returns the images as a docker-archive (tar), or an error if the binary was built without them.
func Archive() (io.Reader, error) {
	archive, err := files.Open("image/demo.tar")
	if err != nil {
		return nil, errors.New("this binary was built without the demonstration image: build it with make")
	}
	return archive, nil
}
