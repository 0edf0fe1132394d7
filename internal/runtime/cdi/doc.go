// Package cdi gives containers the devices that vendors describe in files of the Container Device Interface.
//
//	err := cdi.Inject(spec, []string{"vendor.com/gpu=gpu0"}, cdi.Dirs)
//
// A file describes devices of one kind: what a container that gets one of them has besides what it has anyway, as variables, device nodes, mounts and
// hooks. Files are read when a container is made, so that what a driver has written a moment before counts.
package cdi
