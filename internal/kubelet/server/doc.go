// Package server is the kubelet's HTTPS API: what the API server and monitoring ask of a node.
//
//	err := server.Run(ctx, server.Config{Address: "10.0.0.1:10250", TLS: tls, Backend: kubelet, …})
//
// Every request is authenticated (client certificate, or a bearer token that the API server reviews; nobody is anonymous) and authorized by the API server as
// access to a subresource of this node. Logs are read from files; exec, attach and port-forward are passed on to the address that the
// runtime gives for them, with the newer WebSocket protocols translated into what runtimes speak; numbers come from control groups and the runtime at
// the moment they are asked for.
package server
