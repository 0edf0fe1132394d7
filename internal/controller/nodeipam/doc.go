// Package nodeipam gives each node its part of the cluster's pod address range: spec.podCIDRs.
//
// In flow Nodes; out flow the ranges of nodes that have none. Ranges are given out in turn, so that one that a node has left behind is
// reused as late as possible.
package nodeipam
