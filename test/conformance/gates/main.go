// Command gates prints the feature gates that Kubernetes' kubelet knows, each with its default and its stage, which is nothing once it is part of Kubernetes: the table of internal/kubelet/configuration.
//
//	gates > ../../internal/kubelet/configuration/gates.txt
package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	_ "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/kubernetes/pkg/features"
)

func main() {
	known := utilfeature.DefaultMutableFeatureGate.GetAll()
	for _, name := range slices.Sorted(maps.Keys(known)) {
		fmt.Println(strings.TrimSpace(fmt.Sprint(name, " ", known[name].Default, " ", known[name].PreRelease)))
	}
}
