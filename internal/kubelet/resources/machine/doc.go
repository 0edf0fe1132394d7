// Package machine finds out how processors and memory are laid out: which hardware threads share a core, a cache, a socket, a NUMA node.
//
//	topo, err := machine.Read("/sys")
//	free := topo.In(machine.NUMA, 0)
//
// What flows in is the kernel's /sys tree; what flows out doesn't change while the kubelet runs. CPUs that are offline don't exist.
package machine
