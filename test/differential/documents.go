package main

import (
	"math/rand/v2"
	"net/http"
)

// documents asks for what belongs to no kind: discovery, OpenAPI, versions, health, and paths that don't exist.
func documents(resources []*resource, random *rand.Rand) []script {
	var out []script
	add := func(path string, header map[string]string) {
		name := path
		for _, k := range sortedKeys(header) {
			name += " " + k + ": " + header[k]
		}
		out = append(out, script{resource: "documents", name: name, steps: []step{{method: http.MethodGet, path: path, header: header}}})
	}
	versions := map[string]bool{}
	for _, r := range resources {
		versions[r.prefix()] = true
	}
	for _, path := range append(sortedKeys(versions), "/api", "/apis", "/apis/apps", "/apis/nothing.example.com", "/apis/apps/v9", "/api/v2", "/version") {
		add(path, nil)
		for _, accept := range []string{"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
			"application/yaml", "text/html", "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList,application/json"} {
			if random.IntN(4) == 0 || path == "/apis" || path == "/api" {
				add(path, map[string]string{"Accept": accept})
			}
		}
	}
	for path := range versions {
		add("/openapi/v3"+path, nil)
	}
	for _, path := range []string{"/", "/nothing", "/api/", "/apis/", "/api/v1/", "/api/v1/nothing", "/api/v1/namespaces/default/nothing", "/api/v1/namespaces/default/pods/x/nothing", "/apis/apps/v1/nothing", "/healthz", "/livez", "/readyz",
		"/healthz/etcd", "/livez/ping", "/readyz/nothing", "/healthz/nothing", "/openapi/v2?x=y", "/openapi/v3/apis/nothing/v1", "/openapi", "/logs", "/swagger.json", "/swaggerapi", "/.well-known/openid-configuration", "/openid/v1/jwks", "/api/v1/watch/namespaces",
		"/api/v1/proxy/x", "/api/v1/proxy", "/api/v1/watch/", "/api/v1/proxy/namespaces/default/pods/x/log", "/apis/apps/v1/proxy/deployments/x?y=<z>", "/api/v1/namespaces//pods", "//api/v1", "/api/v1/../v1/pods", "/api/v1/namespaces/default/pods/..", "/api/v1/componentstatuses/nothing", "/debug/nothing", "/configz", "/flagz", "/statusz", "/statusz/", "/metrics/slis/"} {
		add(path, nil)
	}
	for path, kind := range map[string]string{"/flagz": "Flagz", "/statusz": "Statusz"} {
		for _, accept := range []string{"application/json", "application/yaml", "text/*", "text/html", "application/json;g=config.k8s.io;v=v9;as=" + kind,
			"application/json;g=config.k8s.io;v=v1alpha1;as=" + kind, "application/json;g=config.k8s.io;v=v1beta1;as=" + kind, "application/cbor;g=config.k8s.io;v=v1beta1;as=" + kind} {
			add(path, map[string]string{"Accept": accept})
		}
	}
	return out
}
