// Package samedatabase shows that Clipper and kube-apiserver can stand on one etcd. Each in turn begins on an empty database and fills it with an
// object of every kind; then the other starts on it, and both must read the same, object by object, and update and delete what the other wrote.
//
// The objects, and the keys and versions under which they are stored, are those of upstream's own storage test, which begins on kube-apiserver's
// code. Both servers encrypt with the configuration that Clipper made at its first start.
package samedatabase
