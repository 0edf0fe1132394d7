// Command gates prints the feature gates that Kubernetes' kubelet knows, each with its default: the table of internal/kubelet/configuration.
//
//	gates > ../../internal/kubelet/configuration/gates.txt
package main

import (
	"fmt"
	"maps"
	"slices"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	_ "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/kubernetes/pkg/features"
)

func main() {
	known := utilfeature.DefaultMutableFeatureGate.GetAll()
	for _, name := range slices.Sorted(maps.Keys(known)) {
		fmt.Println(name, known[name].Default)
	}
}
