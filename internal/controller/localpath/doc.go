// Package localpath is the built-in provisioner of local volumes: what makes a PersistentVolumeClaim bind on a fresh cluster.
//
//	apiVersion: storage.k8s.io/v1
//	kind: StorageClass
//	metadata: {name: local-path, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
//	provisioner: clipper.dev/local-path
//	volumeBindingMode: WaitForFirstConsumer
//	allowVolumeExpansion: true
//
// When the scheduler has chosen a node for the first pod of a claim, the controller makes a PersistentVolume of type local that only this node
// reaches. The volume's directory, in the folder that the node announces, is made and removed by the node itself: internal/localpath tells how
// the two agree. When a volume is released and its policy is Delete, the controller asks the node to remove the directory, and deletes
// the volume once the node has done so, or once the node is no more.
//
// Capacity is recorded, not enforced: a directory has the room of the file system that it lies on. So a claim that grows is granted at once.
//
// It reads claims, volumes, classes and nodes, and writes volumes, claims' statuses and the nodes' lists of what to remove.
package localpath
