// Package daemonset keeps one pod of a DaemonSet on each node that it is for.
//
// In flow DaemonSets, nodes, pods and revisions; out flow pods (each bound by affinity to its node, where the scheduler puts it), revisions and
// status. An update replaces the pods of former templates, as many at a time as may be unavailable, or with maxSurge beside the old ones.
package daemonset
