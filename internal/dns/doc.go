// Package dns is the cluster's DNS server, which every node runs for its own pods.
//
//	err := dns.Run(ctx, client, dns.Config{Domain: "cluster.local", Addresses: addrs, Device: "clipper0", …})
//
// It answers to the Kubernetes DNS specification 1.1.0 from Services and EndpointSlices, and forwards all
// other names to the node's own resolvers, with a small cache. Its address is the cluster address of the
// Service kube-dns, which Run puts on a device of the node: pods' queries end on their own node and
// are never translated. (The proxy leaves such a Service alone, see proxy.Config.NodeLocal.)
//
// What flows in: Services, EndpointSlices and packets. What flows out: answers.
//
// Zone is the pure part: objects and questions in, records out.
package dns
