package kubelet

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/kmsg"
	"clipper.dev/clipper/internal/kubelet/node"
)

// followKills tells of processes that the kernel kills because the machine has no memory left. Where its log may not be read, nothing is told.
func (k *Kubelet) followKills(ctx context.Context) error {
	err := kmsg.Follow(ctx, "/dev/kmsg", func(v kmsg.Victim) {
		message := "System OOM encountered"
		if v.Process != "" && v.PID != 0 {
			message = fmt.Sprintf("%s, victim process: %s, pid: %d", message, v.Process, v.PID)
		}
		k.events.Event(node.Reference(k.cfg.NodeName), corev1.EventTypeWarning, "SystemOOM", message)
	})
	if err != nil {
		k.logger.Warn("kills for want of memory are not told", "error", err)
	}
	return nil
}
