// Package sandbox knows what a pod's sandbox is made of: the record that is kept of it, the namespaces
// that its configuration asks for, and the files that its containers share.
//
// What flows in: a PodSandboxConfig. What flows out: the request to the keeper and the sandbox's files.
// Performing it is the runtime's business.
package sandbox
