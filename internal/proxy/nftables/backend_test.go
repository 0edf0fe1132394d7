package nftables

import (
	"slices"
	"strings"
	"testing"

	"clipper.dev/clipper/internal/proxy"
	"clipper.dev/clipper/internal/proxy/proxytest"
)

func TestBackend(t *testing.T) {
	proxytest.Run(t, func(cfg proxytest.Config) (proxy.Backend, error) {
		return New(Config{Table: "lab-proxy", ClusterCIDRs: cfg.ClusterCIDRs, ServiceCIDRs: cfg.ServiceCIDRs})
	}, func() error { return Purge("lab-proxy") })
}

func TestArrangeMovesAsFewAsPossible(t *testing.T) {
	tests := []struct{ name, now, endpoints, want string }{
		{"first", "", "1 2 3", "1 2 3"},
		{"same", "3 1 2", "1 2 3", "3 1 2"},
		{"one_goes", "1 2 3 4", "1 3 4", "1 4 3"},
		{"the_last_goes", "1 2 3", "1 2", "1 2"},
		{"one_comes", "2 3", "1 2 3", "2 3 1"},
		{"one_replaced", "1 2 3", "1 3 4", "1 4 3"},
		{"all_replaced", "1 2", "3 4 5", "3 4 5"},
		{"none_left", "1 2", "", ""},
	}
	parse := func(s string) (list []endpointData) {
		for _, word := range strings.Fields(s) {
			list = append(list, endpointData(word))
		}
		return list
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := arrange(parse(test.now), parse(test.endpoints)); !slices.Equal(got, parse(test.want)) {
				t.Errorf("got %v", got)
			}
		})
	}
}
