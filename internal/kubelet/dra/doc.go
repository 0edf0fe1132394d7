// Package dra has a node's DRA drivers prepare the devices that pods' ResourceClaims were given.
//
//	m, err := dra.New(dra.Config{Dir: root, NodeName: name, Client: c, …})
//	m.Start(ctx)                      // m is the handler of registerapi.DRAPlugin
//	err = m.Prepare(ctx, pod)         // before its sandbox is made
//	devices, err := m.Devices(pod, c) // for the runtime, by their CDI names
//	err = m.Unprepare(ctx, pod.UID)   // when nothing of it runs any more
//
// A claim's life here: noted on disk, with the pod that wants it, before any driver is told; prepared by each driver that has devices in it; noted again
// with the devices that they named; shared by further pods; and with the last of them unprepared and forgotten. So a kubelet that was killed at any
// point knows which drivers it still has to tell. The notes have the form of Kubernetes' dra_manager_state.
//
// A driver's life: registered with its socket; connected; gone. When it has been out of reach for a while the ResourceSlices that it published for this
// node are deleted, so that no pod is sent here for devices that nobody could prepare.
package dra
