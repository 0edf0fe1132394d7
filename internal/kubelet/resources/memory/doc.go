// Package memory gives containers memory of chosen NUMA nodes.
//
//	m, err := memory.New(memory.Config{Policy: "Static", Nodes: topo.Nodes, …})
//	topology.Add(m)                       // a provider of hints, which allocates at admission
//	nodes := m.NodesOf(uid, container)    // what the container may allocate from
//
// With the policy Static, each container of a guaranteed pod gets its memory and huge pages from as few nodes as have them. A node serves either single
// containers or, in a group with other nodes, containers that take from all of the group, never both: else one that is bound to a single node could
// find it eaten up by a larger one. What is given is written to memory_manager_state before a container starts, and found there after a restart.
package memory
