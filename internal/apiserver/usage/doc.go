// Package usage tells what nodes and the containers on them use, from their kubelets' /metrics/resource.
//
//	r := usage.New(func(ctx context.Context, node string) (io.ReadCloser, error) { … })
//	used := r.Nodes(ctx, []string{"node-1"})
//
// A kubelet counts CPU since a container's start; use over time is the difference of two looks. A node is looked at when somebody asks, and not again
// for a while: who asks regularly gets what was used between the looks, and who asks for the first time waits for a second look. While nobody asks nothing is done.
package usage
