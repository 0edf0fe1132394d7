// Package bootstrapsigner signs the ConfigMap kube-public/cluster-info with every bootstrap token that may sign, so that who holds a token can
// tell that the authority named there is the cluster's.
package bootstrapsigner
