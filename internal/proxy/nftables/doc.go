// Package nftables is the proxy backend that writes Services as nftables, over netlink.
//
// There is one table for each address family:
//
//	prerouting, output  (nat)     → services
//	services                      looks {address . protocol . port} up in the verdict map service-ips, then,
//	                              for the node's own addresses, {protocol . port} in service-nodeports
//	pick-…                        chains that all Services share, one for each number of endpoints: draw a
//	                              number and find the endpoint in the map endpoints, by
//	                              {address . protocol . port . number}
//	ext-…, port-…                 a Service's own chain where its external traffic policy is Local
//	svc-…, all-…, local-…         a Service's own chains where clients stay with their endpoint
//	fw-…                          a Service's own chain that lets source ranges pass
//	input, forward, output-filter look new connections that found no endpoint up in no-endpoint-ips and
//	                              no-endpoint-nodeports, and reject or drop them
//	postrouting         (nat)     masquerades what is marked, and pods that reached themselves
//
// A packet that opens a connection so costs a few look-ups in hash tables, whatever the number of
// Services and endpoints; later packets meet connection tracking alone.
//
// A Sync is one transaction with the elements and chains that differ. Its cost depends on the difference
// alone: that is what shared chains are for. With a chain and a map for each Service, the kernel searches and checks
// all of them in each transaction; with one map that the chains of all Services use, it checks each
// element against each chain. The first Sync, and one after an error, replaces the tables in a single transaction,
// so that there is never a moment without rules.
package nftables
