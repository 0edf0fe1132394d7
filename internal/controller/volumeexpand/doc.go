// Package volumeexpand tells who looks at a PersistentVolumeClaim that grows that its driver's own resizer is waited for.
//
// No volume type that Clipper knows is expanded by the control plane itself: CSI drivers bring a resizer, which writes the volume's capacity and the
// claim's status, and local-path volumes have theirs in their provisioner. So the controller reads claims and volumes, and writes events alone.
package volumeexpand
