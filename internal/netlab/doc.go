// Package netlab makes network namespaces for tests and runs code in them. Everything in a laboratory
// disappears with its test, and nothing in it reaches the machine's own network.
//
//	node := netlab.New(t)
//	node.Do(func() { n, err = network.New(cfg) })
//	node.ServeTCP("10.0.0.1:80", "hello")
//	got, err := pod.AskTCP("10.0.0.1:80")
package netlab
