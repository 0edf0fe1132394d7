// Package vacprotection keeps a deleted VolumeAttributesClass until no volume and no claim names it, by the finalizer kubernetes.io/vac-protection.
//
// It reads classes, volumes and claims, and writes the classes' finalizers.
package vacprotection
