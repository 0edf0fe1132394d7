package cli

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"clipper.dev/clipper/internal/cluster"
)

func newUp() *cobra.Command {
	var nodes int
	var server cluster.ServerOptions
	c := &cobra.Command{
		Use: "up", Short: "Start a cluster on this machine", Args: cobra.NoArgs,
		Long: "Start a cluster on this machine, in the background, and wait until its nodes are ready.\nA cluster that was stopped goes on where it was.",
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := layoutOf(c)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			// Whoever reads the steps may leave early, as "| head" does: the start goes on without.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			err = cluster.Up(c.Context(), cluster.UpOptions{
				Layout: l, Nodes: nodes, ServerArgs: changedFlags(c, except("nodes", "name")), NodeArgs: changedFlags(c, only(append(cluster.KubeletFlags(), "registry-config", "log-level")...)),
				Report: func(s cluster.Step) { fmt.Fprintf(out, "%7s  %s\n", milliseconds(s.After), s.Text) },
			})
			if err != nil {
				return err
			}
			printNext(out, l)
			return nil
		},
	}
	c.Flags().IntVar(&nodes, "nodes", 0, "how many nodes this machine shall be, each further one in a network namespace of its own (default 1, or as many as there were)")
	server.AddFlags(c.Flags())
	return c
}

// changedFlags returns the flags that were given and are wanted, to pass them on.
func changedFlags(c *cobra.Command, wanted func(name string) bool) []string {
	var args []string
	c.Flags().Visit(func(f *pflag.Flag) {
		if !wanted(f.Name) {
			return
		}
		text := f.Value.String()
		if v, ok := f.Value.(pflag.SliceValue); ok && len(v.GetSlice()) > 0 {
			for _, element := range v.GetSlice() {
				args = append(args, "--"+f.Name+"="+element)
			}
			return
		}
		switch f.Value.Type() {
		case "stringSlice", "stringToString": // they print themselves in brackets
			text = strings.Trim(text, "[]")
		}
		args = append(args, "--"+f.Name+"="+text)
	})
	return args
}

func only(names ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

func except(names ...string) func(string) bool {
	return func(name string) bool { return !slices.Contains(names, name) }
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func printNext(out io.Writer, l cluster.Layout) {
	named := ""
	if l.Name != cluster.DefaultName {
		named = " --name " + l.Name
	}
	fmt.Fprintf(out, `
The cluster is running. Its kubeconfig is %s

  export KUBECONFIG=%[1]s
  clipper kubectl get nodes
  clipper kubectl create deployment web --image clipper.dev/demo:v1
  clipper status%[2]s
`, l.Kubeconfig(), named)
}
