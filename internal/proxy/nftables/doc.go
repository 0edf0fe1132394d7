// Package nftables is the proxy backend that writes Services as nftables, over netlink.
//
// There is one table for each address family:
//
//	prerouting, output  (nat)     → services
//	services                      looks {address . protocol . port} up in the verdict map service-ips, then,
//	                              for the node's own addresses, {protocol . port} in service-nodeports
//	svc-…                         connections to cluster addresses: picks an endpoint of Internal
//	ext-…                         connections from outside: masquerades or keeps the client's address,
//	                              picks an endpoint of External
//	all-…                         picks an endpoint of Cluster, where the two above need that
//	fw-…                          lets source ranges pass to ext-…
//	input, forward, output-filter look new connections that found no endpoint up in no-endpoint-ips and
//	                              no-endpoint-nodeports, and reject or drop them
//	postrouting         (nat)     masquerades what is marked, and pods that reached themselves
//
// A packet that opens a connection so costs one or two look-ups in hash tables, whatever the number of
// Services; later packets meet connection tracking alone. An endpoint is picked by a random number that
// indexes a map, so its number costs nothing either.
//
// A Sync is one transaction with the chains and map elements that differ. The first one, and one after an
// error, replaces the tables in a single transaction, so that there is never a moment without rules.
package nftables
