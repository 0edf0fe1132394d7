// Package topology finds for a pod's containers the NUMA nodes that serve all the resources they ask for.
//
// A provider owns a resource: CPUs, memory, devices. For what a container asks it gives hints: sets of NUMA nodes that could serve it, each preferred
// or not (preferred are those with as few nodes as the request needs at all). Asked to admit a pod, the Manager
//
//	collects the hints of all providers, for each container or for the pod as a whole (the scope),
//	merges them into the one that all agree on best,
//	lets the policy decide whether that is good enough,
//	remembers it as the container's Affinity, and
//	has every provider allocate, which looks the affinity up.
//
// With the policy none nobody is asked for hints. What flows in are pods; what flows out is nil or why a pod cannot run here.
package topology
