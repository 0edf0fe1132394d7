// Package csrsigning signs approved requests for certificates with the cluster's authority, for the signers
// kubernetes.io/kube-apiserver-client, kube-apiserver-client-kubelet, kubelet-serving and legacy-unknown. An approved request that its
// signer's rules don't allow gets the condition Failed.
package csrsigning
