// Package cpu gives containers processors of their own.
//
//	m, err := cpu.New(cpu.Config{Policy: "static", Topology: topo, Reserved: 1, …})
//	topology.Add(m)                     // a provider of hints, which allocates at admission
//	set := m.For(uid, container)        // what the container may run on
//
// With the policy static, a container of a guaranteed pod that asks for a whole number of CPUs gets them for itself. All others share the rest, the
// default set; the reserved CPUs always stay in it, or, if reserved strictly, belong to no container at all. take.go chooses which CPUs: as few
// sockets, nodes, caches and cores as possible are broken into. distribute.go spreads them evenly over NUMA nodes instead, if that's asked for.
//
// What is given is written to cpu_manager_state before a container starts, and found there after a restart. With the policy none there's only the file,
// so that a change of policy is noticed.
package cpu
