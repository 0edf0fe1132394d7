// Package allocation gives Services their cluster addresses and node ports.
//
//	a, err := allocation.New(ctx, engineClient, allocation.Config{Logger: log})
//	services.Hooks = a.Hooks() // before the API server serves the row
//	go a.Run(ctx)              // gives back what leaked
//
// Services that are written flow in; what flows out are the same Services with their fields filled in, IPAddress objects,
// which make an address its Service's own across all servers, and the record of node ports in /registry/ranges/servicenodeports, which does
// so for these, also for a kube-apiserver on the same database.
//
// The life of an address: it is reserved by creating its IPAddress before the Service is stored, given back if that fails, and
// deleted after the Service is. What a crash leaves in between is found by comparing the two, which Run does.
package allocation
