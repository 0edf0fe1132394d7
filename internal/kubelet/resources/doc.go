// Package resources gives pods those of the node's resources that have a place: CPUs and memory of their own, devices.
//
//	m, err := resources.New(resources.Config{Policies: policies, …})
//	err = m.Start(ctx)                            // device plugins may register
//	refusal := m.Admit(ctx, pod)                  // allocates, or says why the pod cannot run
//	options, err := m.Options(ctx, pod, c)        // what the runtime is told of a container's devices
//	m.Pin(pod, c, linux)                          // and of its CPUs and memory
//	m.Forget(uid)                                 // takes back what a pod has
//
// The work is done below: machine tells how the machine is laid out, cpu, memory and device own their resources, topology makes them agree on NUMA
// nodes, podresources tells agents who has what. With all policies none and no plugin, nothing is looked at and nothing runs but two sockets.
package resources
