// Package proxy makes Services work on a node: it turns Services and EndpointSlices into what a packet
// for each address and port of a Service should meet on this node, and has a backend put that into the kernel.
//
//	backend, err := nftables.New(nftables.Config{Table: "clipper-proxy", ClusterCIDRs: cidrs})
//	err = proxy.Run(ctx, client, proxy.Config{NodeName: name, Backend: backend})
//
// What flows in: Services, EndpointSlices and this node's labels. What flows out: calls of Backend.Sync with what
// changed, connection tracking entries that lead nowhere any more deleted, and the answers of the
// Services' health check node ports.
//
// Model is the pure part: objects in, Changes out. It decides which endpoints a Service has on this node
// (traffic policies, topology hints, terminating endpoints), so that backends only translate.
package proxy
