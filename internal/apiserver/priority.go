package apiserver

import (
	"cmp"
	"slices"

	apiversion "k8s.io/apimachinery/pkg/version"
)

// groupOrder is the order in which upstream's discovery lists its own groups; others follow by name.
var groupOrder = []string{
	"", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch",
	"certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io", "storage.k8s.io",
	"admissionregistration.k8s.io", "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io",
	"discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
}

func compareGroups(a, b *group) int {
	return cmp.Or(cmp.Compare(groupRank(a.name), groupRank(b.name)), cmp.Compare(a.name, b.name))
}

func groupRank(name string) int {
	if i := slices.Index(groupOrder, name); i >= 0 {
		return i
	}
	return len(groupOrder)
}

// compareVersions orders v2 after v1 after v1beta1.
func compareVersions(a, b string) int { return apiversion.CompareKubeAwareVersionStrings(a, b) }
