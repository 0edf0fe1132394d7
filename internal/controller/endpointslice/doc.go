// Package endpointslice keeps, for each Service with a selector, the EndpointSlices that list its pods' addresses: what
// the proxies and DNS read.
//
// In flow Services, pods, nodes (for the zones) and the slices; out flow slices of at most a hundred endpoints of one address
// family and one set of ports. The plan changes as few slices as it can, since each changed slice goes to every node.
package endpointslice
