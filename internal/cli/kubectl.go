package cli

import (
	"os"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"

	"clipper.dev/clipper/internal/cluster"
)

func newKubectl() *cobra.Command {
	return &cobra.Command{
		Use: "kubectl", Short: "Run kubectl against the cluster", DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := kubectl(args, cluster.DefaultName); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
}

// kubectl runs kubectl. Where nothing else says which kubeconfig to use, the named cluster's is used; with "", the default cluster's
// if it exists.
func kubectl(args []string, name string) int {
	if os.Getenv("KUBECONFIG") == "" {
		if l, err := cluster.NewLayout(name); err == nil {
			if _, err := os.Stat(l.Kubeconfig()); err == nil && (name != "" || !homeKubeconfig()) {
				os.Setenv("KUBECONFIG", l.Kubeconfig())
			}
		}
	}
	os.Args = append([]string{"kubectl"}, args...)
	kubectlutil.BehaviorOnFatal(func(text string, code int) {
		if text != "" {
			os.Stderr.WriteString(text + "\n")
		}
		os.Exit(code)
	})
	if err := cliflag.RunNoErrOutput(kubectlcmd.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
		return 1
	}
	return 0
}

func homeKubeconfig() bool {
	home, err := os.UserHomeDir()
	if err != nil {
		return false
	}
	_, err = os.Stat(home + "/.kube/config")
	return err == nil
}
