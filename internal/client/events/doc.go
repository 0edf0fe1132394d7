// Package events records what happened to API objects as Event objects, for people and for kubectl describe.
//
//	rec := events.New(events.Config{Client: c, Component: "kubelet", Host: node})
//	go rec.Run(ctx)
//	rec.Eventf(pod, corev1.EventTypeNormal, "Started", "Container started")
//
// Recording never blocks: events go into a bounded queue, whose overflow is counted and dropped. One goroutine (Run) takes
// them out, correlates them as Kubernetes does, and writes. Correlation has three steps. A token bucket
// per source and object drops floods. Many events that differ in their message alone are folded into one, "(combined from similar
// events): …". An event that equals an earlier one raises that one's count by a patch and creates nothing.
package events
