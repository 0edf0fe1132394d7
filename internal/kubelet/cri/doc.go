// Package cri speaks to the container runtime.
//
//	c, err := cri.Dial("unix:///run/containerd/containerd.sock", owner, 2*time.Minute, metrics, logger) // or cri.New, with the built-in runtime's own connection
//	observed, err := c.Observe(ctx, podUID)
//	err = c.Watch(ctx, func(uid types.UID) { … })
//
// Calls go to the runtime through the generated clients in Client; what this package adds is reading: Observe and List turn the runtime's
// answers into lifecycle.Observed, and Watch tells which pods have changed, by the runtime's events where it has them and
// by comparing lists where it has not. Only what bears the owner's label is ever returned.
package cri
