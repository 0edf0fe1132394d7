package exposition

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	apiversion "k8s.io/apimachinery/pkg/version"
)

// VersionInfo says which versions this one is compatible with: it emulates none but its own.
func VersionInfo(v apiversion.Info) prometheus.Collector {
	labels := prometheus.Labels{"component": "kube", "binary": strings.TrimPrefix(v.GitVersion, "v"), "emulation": v.Major + "." + v.Minor, "min_compat": v.Major + "." + v.Minor}
	if minor, err := strconv.Atoi(v.Minor); err == nil {
		labels["min_compat"] = v.Major + "." + strconv.Itoa(minor-1)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "version_info",
		Help:        "Provides the compatibility version info of the component. The component label is the name of the component, usually kube, but is relevant for aggregated-apiservers.",
		ConstLabels: labels,
	})
	g.Set(1)
	return g
}

// BuildInfo says which version this is.
func BuildInfo(v apiversion.Info) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kubernetes_build_info",
		Help: "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
		ConstLabels: prometheus.Labels{
			"major": v.Major, "minor": v.Minor, "git_version": v.GitVersion, "git_commit": v.GitCommit, "git_tree_state": v.GitTreeState,
			"build_date": v.BuildDate, "go_version": v.GoVersion, "compiler": v.Compiler, "platform": v.Platform,
		},
	})
	g.Set(1)
	return g
}
