package kubelet

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

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

// settings are the parts of the configuration that people look for at /configz.
func (k *Kubelet) settings() map[string]any {
	return map[string]any{
		"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
		"clusterDNS": k.cfg.ClusterDNS, "clusterDomain": k.cfg.ClusterDomain, "maxPods": k.cfg.MaxPods, "cgroupRoot": k.cfg.CgroupRoot, "cgroupDriver": "cgroupfs",
		"containerRuntimeEndpoint": k.cfg.RuntimeEndpoint, "staticPodPath": k.cfg.StaticPodPath, "port": k.port(),
		"containerLogMaxSize": k.cfg.ContainerLogMaxSize, "containerLogMaxFiles": k.cfg.ContainerLogMaxFiles,
		"imageGCHighThresholdPercent": k.cfg.ImageGCHigh, "imageGCLowThresholdPercent": k.cfg.ImageGCLow,
		"allowedUnsafeSysctls": k.cfg.AllowedUnsafeSysctls, "seccompDefault": k.cfg.SeccompDefault, "cpuCFSQuota": !k.cfg.NoCPUCFSQuota,
		"kubeReserved": k.cfg.KubeReserved, "systemReserved": k.cfg.SystemReserved, "resolvConf": k.cfg.ResolvConf, "podPidsLimit": k.cfg.PodPIDsLimit,
	}
}

func (k *Kubelet) serve(ctx context.Context) error {
	return server.Run(ctx, server.Config{
		Address: k.cfg.Listen, TLS: k.cfg.TLS, Client: k.cfg.Client, NodeName: k.cfg.NodeName, Backend: served{k}, Runtime: k.cri, Tree: k.tree,
		RootDir: k.cfg.RootDir, NodeLogDir: k.cfg.NodeLogDir, Capacity: k.capacity, Metrics: k.metrics.registry, Probes: k.metrics.probes, Volumes: k.volumeStats,
		Settings: k.settings(), Logger: k.logger,
	})
}
