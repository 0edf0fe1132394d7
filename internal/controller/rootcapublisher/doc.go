// Package rootcapublisher keeps the ConfigMap kube-root-ca.crt in every namespace: the authority by which pods recognize the API server.
package rootcapublisher
