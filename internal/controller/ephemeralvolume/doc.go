// Package ephemeralvolume makes the PersistentVolumeClaims that pods' ephemeral volumes are templates of.
//
// It reads pods and claims, and creates claims that the pod owns, so that they go with it.
package ephemeralvolume
