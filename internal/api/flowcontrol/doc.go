// Package flowcontrol has the rows of flowcontrol.apiserver.k8s.io: what may wait for what when the server is busy.
package flowcontrol
