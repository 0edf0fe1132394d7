// Package aggregator lets other servers serve groups and versions of the API: those that APIServices name.
//
//	m, err := aggregator.New(ctx, aggregator.Config{…})
//	engine.SetRemotes(m)
//	err = m.Run(ctx)
//
// APIServices, Services and their endpoints flow in. Out flow the remote servers' addresses and discovery for the engine, which passes
// requests on, and the APIServices' Available conditions. It also keeps an APIService for each group and version that is served here.
package aggregator
