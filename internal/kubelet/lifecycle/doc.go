// Package lifecycle decides what happens to a pod on its node. It performs nothing.
//
//	plan := lifecycle.Decide(lifecycle.Input{Pod: pod, Observed: observed, Health: probes})
//	status := lifecycle.Status(lifecycle.StatusInput{Pod: pod, Observed: observed, …})
//
// What flows in is the pod as the API has it, what the runtime reports of its sandboxes and containers, and what probes
// found. What flows out is a Plan (sandbox to make, containers to kill and to start) and the PodStatus to report. Both are pure
// functions, so that whole pod histories are table tests. The kubelet package is the shell that observes and acts.
package lifecycle
