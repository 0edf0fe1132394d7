// Package runtime is the built-in container runtime: a server of the Container Runtime Interface, v1.
//
//	rt, err := runtime.New(runtime.Config{StateDir: …, RunDir: …, Socket: …, KeeperPath: …, CgroupRoot: "clipper", Network: pods, Logger: log})
//	err = rt.Serve(ctx)
//
// What flows in: requests of a kubelet or of crictl on a unix socket. What flows out: sandboxes and
// containers, which the keeper holds and which outlive this process; their records on disk; events.
//
// The runtime decides, the keeper does. A sandbox is namespaces that the keeper holds, a network
// attachment and a few files; no process belongs to it. A container is a plan (package container), an
// overlay of the image's layers (package image), and a process of the keeper's. On a start the runtime
// reads its records, asks the keeper what runs, and brings the two together; half-made things are
// cleared away, and what the runtime did not make is not looked at.
//
// Locks: a sandbox and a container each have one, held while they change; the sandbox's is taken
// before its containers'. Records are replaced as a whole and read without a lock.
package runtime
