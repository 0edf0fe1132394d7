// The keeper parents a node's containers while the daemon comes and goes. See internal/keeper/server.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters namespaces before Go's runtime starts

	"clipper.dev/clipper/internal/keeper/server"
)

// A process that libcontainer starts in a container comes here: Go's runtime is up, nothing else is.
func init() {
	if len(os.Args) < 2 || os.Args[1] != "init" {
		// main stays on the first thread, which cannot end: one that another goroutine has led into a pod's namespaces would keep them.
		runtime.LockOSThread()
		return
	}
	debug.SetGCPercent(-1) // it lives for some milliseconds: collecting garbage would be a good part of them
	if err := server.EnterStage(); err != nil {
		report(err)
		os.Exit(1)
	}
	libcontainer.Init()
}

// report tells the keeper, through libcontainer's log pipe, why a container could not be set up.
func report(err error) {
	fd, convErr := strconv.Atoi(os.Getenv("_LIBCONTAINER_LOGPIPE"))
	if convErr != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	line, _ := json.Marshal(map[string]string{"level": "error", "msg": err.Error()})
	pipe := os.NewFile(uintptr(fd), "log")
	_, _ = pipe.Write(append(line, '\n'))
	pipe.Close()
}

func main() {
	var options server.LaunchOptions
	flag.StringVar(&options.StateDir, "state", "", "folder for what must survive a restart of the machine")
	flag.StringVar(&options.RunDir, "run", "", "folder for what need not")
	flag.StringVar(&options.Cgroup, "cgroup", "", "cgroup to live in, in every hierarchy")
	flag.BoolVar(&options.Foreground, "foreground", false, "stay in the foreground")
	flag.Parse()
	if options.StateDir == "" || options.RunDir == "" || options.Cgroup == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := server.Launch(options); err != nil {
		fmt.Fprintf(os.Stderr, "clipper-keeper: %v\n", err)
		os.Exit(1)
	}
}
