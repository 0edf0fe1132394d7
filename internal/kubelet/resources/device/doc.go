// Package device gives containers devices that plugins offer.
//
//	m, err := device.New(device.Config{Dir: root + "/device-plugins", …})
//	err = m.Start(ctx)                       // plugins may register
//	topology.Add(m)                          // a provider of hints, which allocates at admission
//	options, err := m.Options(ctx, pod, c)   // what the runtime is told for a container
//
// A plugin's life: it calls Register on the kubelet's socket, or puts its own into the plugins' registry; it is asked for its options; its stream of
// device lists is followed until it breaks. Then its devices count as unhealthy, and after five minutes as gone. The node's capacity is all its
// devices, allocatable are the healthy ones. Which container has which devices, and what the plugin answered, is kept in kubelet_internal_checkpoint.
package device
