package nftables

import (
	"testing"

	"clipper.dev/clipper/internal/proxy"
	"clipper.dev/clipper/internal/proxy/proxytest"
)

func TestBackend(t *testing.T) {
	proxytest.Run(t, func(cfg proxytest.Config) (proxy.Backend, error) {
		return New(Config{Table: "lab-proxy", ClusterCIDRs: cfg.ClusterCIDRs, ServiceCIDRs: cfg.ServiceCIDRs})
	})
}
