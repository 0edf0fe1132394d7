// Package csrapproving approves requests for nodes' certificates.
//
// Two controllers: one approves client certificates for whoever may create certificatesigningrequests/nodeclient (a joining
// machine) or selfnodeclient (a node that renews its own), as upstream does. The other approves serving certificates, which upstream leaves to
// people: a node gets one for itself and for the names and addresses that its Node reports, and for nothing else.
package csrapproving
