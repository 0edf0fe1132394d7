// Package criconfig translates a pod into what the container runtime interface asks for.
//
//	sandbox, err := criconfig.Sandbox(node, pod, attempt)
//	container, err := criconfig.Container(node, criconfig.ContainerInput{Pod: pod, Ref: ref, Env: env, Mounts: mounts, …})
//
// What flows in is a pod with everything around it already resolved (environment, mounts, image); what flows out are the
// runtime's messages. The functions are pure apart from reading the node's resolv.conf and hosts files. Labels and
// annotations are upstream's, so that crictl and log shippers find their way; they also carry all that a restarted kubelet
// needs to know a container again.
package criconfig
