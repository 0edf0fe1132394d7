package clusterauthentication

import (
	"encoding/json"
	"fmt"
	"maps"
)

// A Proxy is an authenticating proxy that the API server believes.
type Proxy struct {
	AllowedNames, UserHeaders, UIDHeaders, GroupHeaders, ExtraPrefixes []string
}

// published returns the ConfigMap's data. What others wrote beside it stays.
func published(have map[string]string, clientCA, proxyCA []byte, proxy Proxy) (map[string]string, error) {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	out["client-ca-file"] = string(clientCA)
	out["requestheader-client-ca-file"] = string(proxyCA)
	for key, list := range map[string][]string{
		"requestheader-allowed-names":        proxy.AllowedNames,
		"requestheader-username-headers":     proxy.UserHeaders,
		"requestheader-uid-headers":          proxy.UIDHeaders,
		"requestheader-group-headers":        proxy.GroupHeaders,
		"requestheader-extra-headers-prefix": proxy.ExtraPrefixes,
	} {
		data, err := json.Marshal(list)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", key, err)
		}
		out[key] = string(data)
	}
	return out, nil
}
