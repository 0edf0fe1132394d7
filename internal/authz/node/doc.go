// Package node is the authorizer of kubelets: a node may read what the pods that run on it need, and write about itself.
//
//	az, err := node.New(ctx, client)
//
// What flows in are live sets of pods, claims, volumes and attachments. Nothing is kept of them: whether a Secret belongs to a
// node is answered by the node's pods, found by their index at the moment of the question, so that a pod that was bound
// an instant ago already counts. What flows out are decisions, and References: the objects that a pod names.
//
//	node ← pod ← secret, configmap, service account, claim, resource claim
//	node ← pod ← claim ← volume ← secret
//	node ← volume attachment, resource slice
package node
