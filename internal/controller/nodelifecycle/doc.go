// Package nodelifecycle watches over the nodes' heartbeats and tells the rest of the cluster, by conditions and taints, which nodes it
// can count on.
//
// In flow Nodes, the Leases that kubelets renew, and pods. Out flow the nodes' conditions (Unknown once a kubelet has fallen silent), their
// taints (NoSchedule for each condition that is bad, NoExecute for a node that isn't ready) and the pods' Ready condition on nodes
// that were lost. NoExecute taints lead to eviction, so they are rate limited by zone, and held back altogether while no node
// anywhere is ready: then it is rather this side that is cut off.
package nodelifecycle
