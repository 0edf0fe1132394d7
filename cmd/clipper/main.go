// Command clipper is Kubernetes in one binary. Called by the name kubectl it is kubectl.
package main

import (
	"embed"
	"os"

	"clipper.dev/clipper/internal/cli"
)

// keeper holds the keeper's executable (cmd/clipper-keeper), which make builds first.
//
//go:embed all:keeper
var keeper embed.FS

func main() {
	program, _ := keeper.ReadFile("keeper/clipper-keeper")
	os.Exit(cli.Main(os.Args, program))
}
