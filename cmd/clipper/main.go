// Command clipper is Kubernetes in one binary. Called by the name kubectl it is kubectl.
package main

import (
	"embed"
	"io"
	"os"
	"runtime"

	"clipper.dev/clipper/internal/cli"
)

// keeper holds the keeper's executable (cmd/clipper-keeper), which make builds first.
//
//go:embed all:keeper
var keeper embed.FS

// main stays on the first thread, which cannot end: one that another goroutine has led into a pod's namespaces would keep them.
func init() { runtime.LockOSThread() }

func main() {
	var program io.ReadSeeker // it stays in the file: nothing copies it into memory
	if f, err := keeper.Open("keeper/clipper-keeper"); err == nil {
		program = f.(io.ReadSeeker)
	}
	os.Exit(cli.Main(os.Args, program))
}
