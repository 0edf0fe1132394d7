package cli

import (
	"io"

	"github.com/spf13/cobra"

	"clipper.dev/clipper/internal/cluster"
)

func newServer(keeper io.ReadSeeker) *cobra.Command {
	var o cluster.ServerOptions
	c := &cobra.Command{
		Use: "server", Short: "Run a server in the foreground", Args: cobra.NoArgs,
		Long: "Run a server in the foreground: the control plane and a node. \"clipper up\" does this in the background.",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Layout, err = layoutOf(c); err != nil {
				return err
			}
			o.Keeper, o.Progress = keeper, cluster.InheritedProgress()
			if o.Logger, err = openLog(o.LogLevel); err != nil {
				return reportFailure(o.Progress, err)
			}
			return reportFailure(o.Progress, cluster.RunServer(c.Context(), o))
		},
	}
	o.AddFlags(c.Flags())
	return c
}

func newAgent(keeper io.ReadSeeker) *cobra.Command {
	var o cluster.AgentOptions
	c := &cobra.Command{
		Use: "agent", Short: "Run a node that joins a cluster, in the foreground", Args: cobra.NoArgs,
		Long: "Run a node that joins a cluster, in the foreground. \"clipper token create\" on the server prints the command.",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Layout, err = layoutOf(c); err != nil {
				return err
			}
			o.Keeper, o.Progress = keeper, cluster.InheritedProgress()
			if o.Logger, err = openLog(o.LogLevel); err != nil {
				return reportFailure(o.Progress, err)
			}
			return reportFailure(o.Progress, cluster.RunAgent(c.Context(), o))
		},
	}
	o.AddFlags(c.Flags())
	return c
}

func reportFailure(p *cluster.Progress, err error) error {
	if err != nil {
		p.Fail(err)
	}
	return err
}
