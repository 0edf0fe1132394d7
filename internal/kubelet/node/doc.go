// Package node keeps the Node object and its lease.
//
//	m := node.New(node.Config{…})
//	err := m.Run(ctx)
//
// What flows in: the machine, the runtime's health, pressure, images. What flows out: a registered Node, whose status is written when it has changed (and every five
// minutes in any case), a Lease that's renewed every ten seconds, and, back to the kubelet, the node's pod ranges. The Ready condition is
// written the moment it becomes true.
package node
