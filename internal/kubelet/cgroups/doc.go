// Package cgroups keeps the tree of control groups that pods live in:
//
//	<root>/kubepods                 all pods, bounded by what the node gives to pods
//	<root>/kubepods/pod<uid>        a Guaranteed pod
//	<root>/kubepods/burstable/pod<uid>
//	<root>/kubepods/besteffort/pod<uid>
//
//	tree, err := cgroups.New("/clipper")
//	parent, err := tree.EnsurePod(pod)
//	err = tree.RemovePod(pod.UID)
//
// The kubelet owns the tree down to the pods; containers below them are the runtime's. Both versions of control groups are
// spoken by plain file writes. Nothing outside <root> is ever written. Another kubelet may have pods below the same root: which pods are whose, their
// directories tell.
package cgroups
