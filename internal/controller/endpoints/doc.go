// Package endpoints keeps, for each Service with a selector, the Endpoints object of its name: the older form of EndpointSlices,
// which programs still read.
//
// In flow Services, pods and Endpoints; out flow Endpoints, with the pods' addresses of the Service's first family, packed into as few
// subsets as their ports allow and cut off at a thousand addresses.
package endpoints
