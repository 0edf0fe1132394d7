// Package metrics holds the rows of metrics.k8s.io: what nodes and pods use now, for kubectl top and autoscaling.
//
// Nothing of it is stored. A request asks the kubelets of the nodes that it is about, through api.Env; what flows out is what metrics-server tells.
// Whoever installs metrics-server takes the group over by its APIService.
package metrics
