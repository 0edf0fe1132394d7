// Package csi mounts the volumes of CSI drivers, which register with the kubelet by their sockets.
//
//	p := csi.New(csi.Config{Root: dir, NodeName: name, Client: client, Host: host, Node: node, Events: events, Logger: logger})
//	registry := plugins.New(plugins.Config{…, Handlers: {"CSIPlugin": p}})   // drivers come and go
//	manager := volumes.New(volumes.Config{…, Further: []volumes.Plugin{p}})   // pods' volumes do
//
// What flows in are drivers, and pods with the persistent volumes or inline volumes that name them. What flows out are the calls of
// the CSI node service, the Node's and CSINode's entries for each driver, and the list of volumes that the node uses, by which the control
// plane knows what it must not detach.
//
// The life of a volume on a node: if its driver wants it attached, the Node's status must say that it is in use here and attached; it is staged
// once for the node, if the driver stages; published for each pod; expanded when it has grown; unpublished for each pod; and when no pod is
// left, unstaged, and in use no more. An inline volume is only published and unpublished.
//
// Everything is found again after a restart, by records beside the directories (vol_data.json, as upstream's kubelet writes them):
//
//	pods/<uid>/volumes/kubernetes.io~csi/<volume>/vol_data.json     a publication; written before anything else is done for it
//	pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount             where it is published; a device file for block volumes
//	plugins/kubernetes.io/csi/<driver>/<hash>/vol_data.json         a volume that is in use on the node
//	plugins/kubernetes.io/csi/<driver>/<hash>/globalmount           where it is staged
package csi
