package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"clipper.dev/clipper/internal/cluster"
)

func newDown() *cobra.Command {
	var purge bool
	c := &cobra.Command{
		Use: "down", Short: "Stop the cluster and its containers; its data stays", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			if err := cluster.Down(c.Context(), l, purge); err != nil {
				return err
			}
			if purge {
				fmt.Fprintf(c.OutOrStdout(), "cluster %s is gone\n", l.Name)
				return nil
			}
			fmt.Fprintf(c.OutOrStdout(), "cluster %s is stopped; its data is in %s\n", l.Name, l.DataDir)
			return nil
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove its data, images, logs and configuration too: nothing is left")
	return c
}
