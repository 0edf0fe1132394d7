// Package network connects pods to the cluster network, in process and over netlink alone.
//
//	net, err := network.New(network.Config{Bridge: "clipper0", Table: "clipper-net", StateDir: dir, …})
//	err = net.SetPodCIDRs(ctx, node.Spec.PodCIDRs)
//	addrs, err := net.Attach(ctx, network.Sandbox{ID: id, NetNS: ns})
//	err = net.SetPeers(ctx, otherNodes)
//
// Each pod has a veth whose one end is the pod's eth0 and to whose other end the node routes the pod's
// address. The bridge is where the node's own address in the pod network lives; pods aren't its ports. A
// bridge would forward between neighbours by itself, past the translation of Services, or not, as the
// machine-wide setting of the kernel's bridge filter has it. Routed, every packet passes connection tracking and nftables.
// Nodes reach each other's pods through a VXLAN device with static entries; nothing is learnt or
// broadcast. An nftables table masquerades what leaves the cluster and publishes host ports.
//
// What flows in: the node's ranges, the sandboxes of the runtime and the list of the other nodes.
// What flows out: addresses. What it made for a sandbox is kept in one small file each, so that a
// restarted process knows it and can take it back.
//
// All names (bridge, table, VXLAN device) come from the configuration, so several clusters live side by
// side on one machine. Everything acts in the network namespace that New was called in.
//
// NewCNI gives the same interface over the plugins of a CNI configuration directory.
package network
