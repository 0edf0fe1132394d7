package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"clipper.dev/clipper/internal/cluster"
)

// Main runs the program and returns its exit code. args is os.Args; keeper is the keeper's executable, nil if there is none.
func Main(args []string, keeper io.ReadSeeker) int {
	if filepath.Base(args[0]) == "kubectl" {
		return kubectl(args[1:], "")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := newRoot(keeper)
	root.SetArgs(args[1:])
	if err := root.ExecuteContext(ctx); err != nil {
		if code, ok := err.(exitCode); ok {
			return int(code)
		}
		fmt.Fprintln(os.Stderr, "clipper:", strings.TrimSpace(err.Error()))
		return 1
	}
	return 0
}

// exitCode ends the program without a word of its own.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newRoot(keeper io.ReadSeeker) *cobra.Command {
	root := &cobra.Command{
		Use:           "clipper",
		Short:         "Kubernetes in one binary",
		Long:          "Clipper runs Kubernetes: API server, etcd, scheduler, controllers, kubelet, container runtime,\nkube-proxy, DNS and kubectl, in one binary.\n\nStart with:  clipper up",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       cluster.Version,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see \"%s --help\"", err, c.CommandPath())
	})
	root.PersistentFlags().String("name", cluster.DefaultName, "name of the cluster; everything that it touches on the machine follows from it")
	root.AddCommand(
		newUp(), newDown(), newStatus(), newServer(keeper), newAgent(keeper),
		newToken(), newImage(), newKubectl(), newVersion(),
	)
	return root
}

// layoutOf returns the layout of the cluster that --name says. Whoever wants it deals with files that only root may read.
func layoutOf(c *cobra.Command) (cluster.Layout, error) {
	if os.Geteuid() != 0 {
		return cluster.Layout{}, fmt.Errorf("\"%s\" needs root: try again with sudo", c.CommandPath())
	}
	name, err := c.Flags().GetString("name")
	if err != nil {
		return cluster.Layout{}, err
	}
	return cluster.NewLayout(name)
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) {
			fmt.Fprintf(c.OutOrStdout(), "clipper %s (Kubernetes %s)\n", cluster.Version, cluster.KubernetesVersion)
		},
	}
}
