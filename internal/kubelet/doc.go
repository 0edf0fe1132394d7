// Package kubelet runs the pods that are bound to a node.
//
//	k, err := kubelet.New(kubelet.Config{NodeName: "n1", Client: c, Settings: settings, …})
//	err = k.Run(ctx)
//
// What flows in: the API's pods with this node's name and the static pods of a folder; what the runtime reports; what probes find. What flows out: calls to the
// runtime, pod statuses, events, the Node object and its lease.
//
// Each pod has one worker (worker.go). It is a loop that never blocks: it takes in what has changed, lets package
// lifecycle decide, starts at most one operation (start containers, end the pod, clean up) beside itself, reports the status, and
// sleeps until something happens or a timer that the decision asked for runs out. An idle node does nothing but renew its lease.
//
// No state is kept on disk beside the pods' own directories: after a crash everything is found again in the API, the runtime's labels and the directories' names.
package kubelet
