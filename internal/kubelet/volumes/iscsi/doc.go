// Package iscsi mounts logical units of iSCSI targets (RFC 7143) by the node's open-iscsi.
//
//	p := iscsi.New(iscsi.Config{Root: dir, Host: host, Logger: logger})
//	manager := volumes.New(volumes.Config{…, Further: []volumes.Plugin{p}})
//
// What flows in are pods with volumes that name a target, its portals and a unit, and the Secrets for CHAP. What flows out are calls of iscsiadm,
// a file system that is mounted once for the node, and bind mounts of it for the pods; a block volume is the device itself.
//
// Sessions and devices are found in sysfs, where the kernel tells them, and not by the names that udev gives. A unit of which several
// portals tell is one disk to the device mapper where multipathd runs.
//
// A unit in use has a record, written before anything else is done for it, by which everything is found again after a restart:
//
//	plugins/kubernetes.io/iscsi/<hash>/disk.json      the unit, and the directories of the pods' volumes that it is behind
//	plugins/kubernetes.io/iscsi/<hash>/globalmount    where its file system is mounted
package iscsi
