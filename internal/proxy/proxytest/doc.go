// Package proxytest is what every proxy backend must pass: real connections through a node in a network
// namespace of its own, with pods and an outside, against what a model made of Services and EndpointSlices.
//
//	func TestBackend(t *testing.T) {
//		proxytest.Run(t, func(cfg proxytest.Config) (proxy.Backend, error) { … }, purge)
//	}
package proxytest
