package cdi

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// annotationPrefix begins the annotations by which a container asks for devices.
const annotationPrefix = "cdi.k8s.io/"

// qualified is a device's full name: vendor/class=device.
var qualified = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?=[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$`)

// Names lists the devices that a container gets: those that it is given, then those that its annotations ask for, each once.
func Names(given []string, annotations map[string]string) ([]string, error) {
	names := slices.Clone(given)
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, annotationPrefix) {
			continue
		}
		for name := range strings.SplitSeq(annotations[key], ",") {
			if !qualified.MatchString(name) {
				return nil, fmt.Errorf("failed to parse CDI device annotations: invalid CDI device name %q", name)
			}
			names = append(names, name)
		}
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	}), nil
}
