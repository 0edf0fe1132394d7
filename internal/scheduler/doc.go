// Package scheduler gives each pod a node.
//
// Pods without a node flow in, bindings flow out; where no node will do, the reason is written to the pod.
//
// Deciding is separated from doing. The core (queue.go, cluster.go, class.go, preempt.go and a file for each plugin) is pure:
// it is told of nodes and pods and answers with a decision; it takes no locks, reads no clock and does no input or output.
// The shell (scheduler.go, bind.go) feeds it from views and carries its decisions out, many bindings at once.
//
// The state is columns over nodes. Pods that ask for the same form a class (class.go), which keeps its verdict on every node
// and its feasible nodes ranked, and repairs only the nodes that changed since its last pod: the hundredth replica of a
// Deployment costs a few heap operations, not a pass over all nodes.
package scheduler
