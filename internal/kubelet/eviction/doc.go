// Package eviction ends pods before the node runs out of what cannot be shared: memory, disk, inodes, process IDs.
//
// Measurements and thresholds flow in; a Decision flows out: which node conditions hold, whether to reclaim images and dead containers first,
// and which pod goes, in upstream's order. Decide is pure; Manager measures and acts.
package eviction
