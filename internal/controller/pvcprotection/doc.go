// Package pvcprotection keeps a deleted PersistentVolumeClaim until no pod uses it, by the finalizer kubernetes.io/pvc-protection.
//
// It reads claims and pods, and writes the claims' finalizers. A pod uses a claim from the moment that it has a node until its object
// is gone: the kubelet starts no pod whose claim is being deleted, so pods without a node don't count.
package pvcprotection
