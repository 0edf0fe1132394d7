package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"clipper.dev/clipper/internal/cluster"
)

func newToken() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Manage the tokens with which machines join"}
	var o cluster.TokenOptions
	create := &cobra.Command{
		Use: "create", Short: "Make a token and print the command that joins another machine", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			token, err := cluster.CreateToken(c.Context(), l, o)
			if err != nil {
				return err
			}
			server, err := cluster.ServerURL(l)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "clipper agent --server %s --token %s\n", server, token)
			return nil
		},
	}
	create.Flags().DurationVar(&o.TTL, "ttl", 24*time.Hour, "how long the token can be used; 0 is for ever")
	create.Flags().StringVar(&o.Description, "description", "", "what the token is for")
	list := &cobra.Command{
		Use: "list", Short: "List the tokens", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			return cluster.ListTokens(c.Context(), l, c.OutOrStdout())
		},
	}
	remove := &cobra.Command{
		Use: "delete ID", Short: "Delete a token", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			return cluster.DeleteToken(c.Context(), l, args[0])
		},
	}
	c.AddCommand(create, list, remove)
	return c
}
