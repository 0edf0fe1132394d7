// Package handlers performs what probes and lifecycle hooks ask for: a command in a container, an HTTP request, a TCP connection, a
// gRPC health check, a pause.
//
//	result := handlers.Probe(ctx, runner, target, probe)
//	err := metrics.Hook(ctx, runner, target, hook)
//
// A handler's description and the container that it is for flow in; an outcome with a text for people flows out.
package handlers
