package kubelet

import (
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/dra"
)

// openClaims makes what has pods' devices prepared.
func (k *Kubelet) openClaims() (err error) {
	k.dra, err = dra.New(dra.Config{
		Dir: k.cfg.RootDir, NodeName: k.cfg.NodeName, Client: k.cfg.Client, Registered: k.attach.registered,
		Active: k.activePods, HealthChanged: func(uid types.UID) { k.pods.changed(uid) }, Metrics: k.metrics.registry, Logger: k.logger,
	})
	return err
}

// activePods are the pods of which something may still run; false when not all are known yet.
func (k *Kubelet) activePods() (map[types.UID]bool, bool) {
	if !k.sourcesReady.Load() || !k.staticReady() {
		return nil, false
	}
	out := map[types.UID]bool{}
	for _, s := range k.pods.list() {
		out[s.Pod.UID] = true
	}
	return out, true
}
