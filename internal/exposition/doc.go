// Package exposition shows metrics in the form in which Kubernetes' programs do: each with how stable upstream calls it, and with what programs tell of
// themselves.
//
//	registry := prometheus.NewRegistry()
//	mux.Handle("GET /metrics", exposition.New(registry, time.Now()))
//
// A metric is declared where it is counted, with upstream's name and help; what upstream promises of it stands here, in stability.txt.
package exposition
