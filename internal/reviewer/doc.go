// Package reviewer asks another server for reviews: whose token something is, or who may do what.
//
//	r, err := reviewer.Open(kubeconfigFile, 30*time.Second)
//	err := r.Review(ctx, &review) // review holds the answer afterwards
//
// What flows in is a kubeconfig file, which names the server and this one's credentials, and reviews. A request that failed for a passing reason is
// repeated a few times, ever more slowly.
package reviewer
