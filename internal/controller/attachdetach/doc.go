// Package attachdetach attaches volumes of CSI drivers to the nodes whose pods use them, and detaches them when none does.
//
// A driver's own attacher does the work: the controller asks for it by VolumeAttachments. It tells the node by status.volumesAttached what
// it may mount, and learns by status.volumesInUse what it has mounted: a volume in use is not detached, unless the node carries the
// taint node.kubernetes.io/out-of-service, or has not been ready while the volume was to go for maxWaitForUnmount. A volume that one
// node alone may use is attached to another only when the former attachment is gone.
//
// A key is a node. It reads pods, claims, volumes, drivers, nodes and attachments; it writes attachments and the nodes' lists of what is attached.
package attachdetach
