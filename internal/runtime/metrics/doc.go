// Package metrics tells what containers use, as the metrics that the kubelet passes on under /metrics/cadvisor.
//
//	set := metrics.NewSet(pod, namespace, container, id, image)
//	set.AddCgroup(metrics.Cgroup{Path: path})
//
// Names, labels and help texts are cAdvisor's, as containerd lists them. What flows in: control groups, /proc, and what the runtime knows of a container.
// What flows out: descriptors and metrics of the Container Runtime Interface. A metric without a descriptor is a programming error.
package metrics
