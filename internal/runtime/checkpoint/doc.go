// Package checkpoint writes a running container's state to an archive, with the help of CRIU, and lets the container run on.
//
//	err := (&checkpoint.Container{…}).Write(scratch, "/var/lib/…/checkpoint-pod_ns-name-time.tar")
//
// The archive has the names and formats that containerd and CRI-O use, which checkpointctl reads: checkpoint/ (CRIU's images), config.dump, spec.dump,
// status.dump, status, rootfs-diff.tar, container.log, dump.log and stats-dump. What flows in: what the runtime knows of a container, and /proc. What flows
// out: the archive. CRIU runs beside the daemon, not in the keeper, which is to stay small. A dump that has begun is not broken off: it would leave the
// container frozen.
package checkpoint
