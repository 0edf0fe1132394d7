// Package configuration reads a kubelet's KubeletConfiguration, and tells what of it cannot be had here.
//
//	given, err := configuration.Read(file, dropIns) // what files say, strictly decoded
//	given.Set("maxPods", 20)                        // what flags say comes last
//	c, err := given.Complete(own)                   // with the cluster's own values and defaults, checked
//
// Files and flags flow in; a whole k8s.io/kubelet/config/v1beta1 KubeletConfiguration flows out, in which every field says what is in effect. A field that
// asks for something that Clipper doesn't do is an error that names it: nothing is silently without effect.
package configuration
