package kubelet

import (
	"context"
	"net"
	"strconv"

	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"clipper.dev/clipper/internal/kubelet/server"
)

// served is the kubelet as its API sees it.
type served struct {
	*Kubelet
}

func shown(s Snapshot) server.Pod {
	return server.Pod{Pod: s.Pod, Observed: s.Observed, Stopped: s.Stopped}
}

// ListPods implements server.Backend.
func (k served) ListPods() []server.Pod {
	list := k.pods.list()
	out := make([]server.Pod, len(list))
	for i, s := range list {
		out[i] = shown(s)
	}
	return out
}

// FindPod implements server.Backend.
func (k served) FindPod(namespace, name string, uid types.UID) (server.Pod, bool) {
	s, ok := k.pods.find(namespace, name, uid)
	return shown(s), ok
}

// WatchPod implements server.Backend.
func (k served) WatchPod(uid types.UID) (<-chan struct{}, func()) { return k.pods.watch(uid) }

func (k *Kubelet) serve(ctx context.Context) error {
	s := k.cfg.Settings
	cfg := server.Config{
		TLS: k.cfg.TLS, ClientCAs: k.cfg.clientCAs, Client: k.cfg.Client, NodeName: k.cfg.NodeName, Backend: served{k}, Runtime: k.cri, Tree: k.tree,
		RootDir: k.cfg.RootDir, Capacity: k.capacity, Machine: k.machine.Info, Metrics: k.metrics.registry, Probes: k.metrics.probes, Volumes: k.volumeStats,
		Settings: s, NoDebugging: !*s.EnableDebuggingHandlers, NoProfiling: !*s.EnableProfilingHandler, Logger: k.logger,
		Access: server.Access{
			Anonymous: *s.Authentication.Anonymous.Enabled, NoTokens: !*s.Authentication.Webhook.Enabled, All: s.Authorization.Mode == kubeletconfig.KubeletAuthorizationModeAlwaysAllow,
			TokenTTL: s.Authentication.Webhook.CacheTTL.Duration, AllowedTTL: s.Authorization.Webhook.CacheAuthorizedTTL.Duration, DeniedTTL: s.Authorization.Webhook.CacheUnauthorizedTTL.Duration,
		},
	}
	if *s.EnableSystemLogHandler {
		cfg.NodeLogDir = k.cfg.NodeLogDir
	}
	if *s.EnableServer && k.cfg.TLS != nil {
		cfg.Address = address(s.Address, s.Port)
	}
	if port := *s.HealthzPort; port > 0 {
		cfg.Healthz = address(s.HealthzBindAddress, port)
	}
	if s.ReadOnlyPort > 0 {
		cfg.ReadOnly = address(s.Address, s.ReadOnlyPort)
	}
	return server.Run(ctx, cfg)
}

// address returns where to listen; all addresses are those of both families.
func address(host string, port int32) string {
	if host == "0.0.0.0" {
		host = ""
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
