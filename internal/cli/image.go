package cli

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"clipper.dev/clipper/internal/cluster"
)

func newImage() *cobra.Command {
	c := &cobra.Command{Use: "image", Short: "Manage the images on this machine's nodes"}
	load := &cobra.Command{
		Use: "import ARCHIVE...", Short: "Import images from docker-archive or OCI tar files, on every node of this machine", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			for _, path := range args {
				names, err := importFile(c, l, path)
				if err != nil {
					return err
				}
				for _, name := range names {
					fmt.Fprintln(c.OutOrStdout(), "imported", name)
				}
			}
			return nil
		},
	}
	list := &cobra.Command{
		Use: "ls", Short: "List the images", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			images, err := cluster.Images(c.Context(), l)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "NAME\tID\tSIZE")
			for _, i := range images {
				fmt.Fprintf(w, "%s\t%.19s\t%.1f MB\n", i.Name, i.ID, float64(i.Bytes)/1e6)
			}
			return w.Flush()
		},
	}
	remove := &cobra.Command{
		Use: "rm NAME...", Short: "Remove images, from every node of this machine", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := cluster.RemoveImage(c.Context(), l, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.AddCommand(load, list, remove)
	return c
}

func importFile(c *cobra.Command, l cluster.Layout, path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := cluster.ImportImages(c.Context(), l, f)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", path, err)
	}
	return names, nil
}
