// Package pki keeps a cluster's keys and certificates: its authorities, the certificates of its servers and
// their clients, and the keys that sign service account tokens.
//
//	keys, err := pki.Open(dir, pki.Options{ClusterName: "clipper", Names: []string{"node-1"}, IPs: ips})
//	server.TLSConfig = keys.ServerTLS()
//	go keys.Run(ctx) // renews what expires
//
// What flows in is a folder, empty at the first start, in which files have the names that kubeadm gives them.
// What flows out are tls.Config values whose callbacks always hand out the current certificate, kubeconfigs for people
// and components, and join tokens: a bootstrap token together with the pin of the authority to trust.
//
// Every key is ECDSA P-256. Authorities live ten years and are renewed under the same key, so pins and everything
// they signed stay valid; certificates live one year and are renewed when a third of that is left.
package pki
