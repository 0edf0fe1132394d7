// Package kubernetesservice keeps the Service "kubernetes" in the namespace default, by which pods reach the API, and the addresses behind it.
//
// In flow the Service, its Endpoints and its EndpointSlice, and the servers' addresses from whoever knows them; out flow these three objects.
package kubernetesservice
