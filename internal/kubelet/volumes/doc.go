// Package volumes makes the volumes of pods appear on the node and go away again.
//
//	m := volumes.New(volumes.Config{Root: dir, Host: host, Logger: logger})
//	mounted, err := m.Mount(ctx, pod)      // also to bring contents up to date
//	mounts, err := m.ContainerMounts(…)    // what the runtime binds into one container
//	err = m.Unmount(ctx, pod.UID)
//	err = m.Remove(pod.UID)                // once nobody asks about the pod any more
//
// Each type of volume is a Plugin in a file of its own; Plugin's comment tells the life of a volume. What flows in is a pod and the objects
// that its volumes name (through Host), what flows out are directories below Root:
//
//	pods/<uid>/volumes/<plugin>/<name>                       contents on disk
//	pods/<uid>/volume-subpaths/<name>/<container>/<index>    safe binds for subPath mounts
//	memory/<uid>/<plugin>/<name>                             contents that never touch a disk, in one shared tmpfs
//
// Everything there is found again by its path after a restart, so no record is kept.
package volumes
