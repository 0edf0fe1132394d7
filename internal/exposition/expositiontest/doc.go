// Package expositiontest holds metrics against Kubernetes' own: their names, types, labels, buckets, help and stability.
//
//	page := expositiontest.Page{List: "testdata/metrics.tsv", Unserved: "testdata/metrics-unserved.yaml", Components: []string{"kubelet"}, Endpoint: "/metrics"}
//	page.Compare(t, expositiontest.Describe(registry), shown)
//
// The list is made from what upstream documents and from what its programs served (see Page.Record); a metric that isn't served has a reason.
package expositiontest
