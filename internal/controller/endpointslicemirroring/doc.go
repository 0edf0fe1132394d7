// Package endpointslicemirroring copies Endpoints that people write by hand, for Services without a selector, into EndpointSlices,
// since those are what proxies read.
//
// In flow Services, Endpoints and the slices; out flow slices of at most a thousand endpoints for each set of ports and address family.
package endpointslicemirroring
