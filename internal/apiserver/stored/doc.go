// Package stored reads and writes the values of one kind as they lie in etcd: the k8s\0 envelope around the
// protobuf message of the stored version, as Kubernetes writes it. JSON values and values of the kind's other
// versions are read too.
//
// In flow Go objects from writers and values from the store; out flow values for etcd, canonical bytes for the
// cache and index records. What this process has just written is recognized when the store brings it back, so
// that it is neither decoded nor encoded a second time.
package stored
