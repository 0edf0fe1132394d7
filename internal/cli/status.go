package cli

import (
	"github.com/spf13/cobra"

	"clipper.dev/clipper/internal/cluster"
)

func newStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the cluster: components, nodes, memory, pods", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			s, err := cluster.StatusOf(c.Context(), l)
			if err != nil {
				return err
			}
			s.Print(c.OutOrStdout())
			if !s.Healthy() {
				return exitCode(1)
			}
			return nil
		},
	}
}
