// Package pvprotection keeps a deleted PersistentVolume until it is bound no more, by the finalizer kubernetes.io/pv-protection.
//
// It reads volumes, and writes their finalizers.
package pvprotection
