package kubelet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/node"
	"clipper.dev/clipper/internal/kubelet/shutdown"
)

// runtimeAPIVersion is what the runtime is asked for.
const runtimeAPIVersion = "v1"

var runtimeClasses = client.Kind[*nodev1.RuntimeClass]{GVR: nodev1.SchemeGroupVersion.WithResource("runtimeclasses")}

// health is what the runtime last said of itself.
type health struct {
	mu       sync.Mutex
	network  error
	handlers []*runtimeapi.RuntimeHandler
	groups   bool // knows supplementalGroupsPolicy
	ranges   string
	checked  bool
}

// checkHealth finds out what keeps the node from being ready.
func (k *Kubelet) checkHealth(ctx context.Context) node.Health {
	h := k.checkRuntime(ctx)
	if k.shutdown.Down() {
		h.Problems = append(h.Problems, shutdown.ErrShuttingDown)
	}
	return h
}

// checkRuntime asks the runtime how it is.
func (k *Kubelet) checkRuntime(ctx context.Context) node.Health {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out node.Health
	version, err := k.cri.Version(ctx, &runtimeapi.VersionRequest{Version: runtimeAPIVersion})
	if err != nil {
		out.Problems = []error{fmt.Errorf("container runtime is down: %w", err)}
		k.health.set(nil, out.Problems[0])
		return out
	}
	out.Version = version.RuntimeName + "://" + version.RuntimeVersion
	status, err := k.cri.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		out.Problems = []error{fmt.Errorf("container runtime status check failed: %w", err)}
		k.health.set(nil, out.Problems[0])
		return out
	}
	var network error
	for _, c := range status.GetStatus().GetConditions() {
		if c.Status {
			continue
		}
		var problem error
		switch c.Type {
		case runtimeapi.RuntimeReady:
			problem = fmt.Errorf("container runtime not ready: %s=false reason:%s message:%s", c.Type, c.Reason, c.Message)
		case runtimeapi.NetworkReady:
			problem = fmt.Errorf("container runtime network not ready: %s=false reason:%s message:%s", c.Type, c.Reason, c.Message)
			network = problem
		default:
			continue // a runtime's own, as containerd's about what is deprecated
		}
		out.Problems = append(out.Problems, problem)
	}
	for _, h := range status.RuntimeHandlers {
		readOnly, users := h.GetFeatures().GetRecursiveReadOnlyMounts(), h.GetFeatures().GetUserNamespaces()
		out.Handlers = append(out.Handlers, corev1.NodeRuntimeHandler{Name: h.Name, Features: &corev1.NodeRuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: &readOnly, UserNamespaces: &users,
		}})
	}
	slices.SortFunc(out.Handlers, func(a, b corev1.NodeRuntimeHandler) int { return cmp.Compare(a.Name, b.Name) })
	groups := status.GetFeatures().GetSupplementalGroupsPolicy()
	out.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &groups}
	if k.health.set(status, network) {
		k.pods.nudgeAll() // pods may have waited for the network
	}
	return out
}

// set records what the runtime said; it returns true when the network has become ready.
func (h *health) set(status *runtimeapi.StatusResponse, network error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	recovered := h.checked && h.network != nil && network == nil
	h.network, h.checked = network, true
	if status != nil {
		h.handlers = status.RuntimeHandlers
		h.groups = status.GetFeatures().GetSupplementalGroupsPolicy()
	}
	return recovered
}

// networkReady returns why a pod cannot have a network now.
func (k *Kubelet) networkReady(pod *corev1.Pod) error {
	if pod.Spec.HostNetwork {
		return nil
	}
	k.health.mu.Lock()
	defer k.health.mu.Unlock()
	return k.health.network
}

// recursiveReadOnly tells whether a handler can make mounts read-only with all that is below.
func (k *Kubelet) recursiveReadOnly(handler string) bool {
	k.health.mu.Lock()
	defer k.health.mu.Unlock()
	return slices.ContainsFunc(k.health.handlers, func(h *runtimeapi.RuntimeHandler) bool {
		return h.Name == handler && h.GetFeatures().GetRecursiveReadOnlyMounts()
	})
}

func (k *Kubelet) knowsGroupsPolicy() bool {
	k.health.mu.Lock()
	defer k.health.mu.Unlock()
	return k.health.groups
}

// listed takes in the outcome of a list: a runtime that has died shall be seen at once.
func (k *Kubelet) listed(err error) {
	if err != nil && k.node.Ready() {
		k.node.Check()
	}
}

// nodeChanged gives the runtime the node's pod ranges, and takes in what else the control plane asks of the node.
func (k *Kubelet) nodeChanged(ctx context.Context, n *corev1.Node) {
	k.local.changed(n)
	k.attach.changed(n)
	ranges := n.Spec.PodCIDR
	if len(n.Spec.PodCIDRs) > 0 {
		ranges = strings.Join(n.Spec.PodCIDRs, ",")
	}
	k.health.mu.Lock()
	same := k.health.ranges == ranges
	k.health.mu.Unlock()
	if ranges == "" || same {
		return
	}
	_, err := k.cri.UpdateRuntimeConfig(ctx, &runtimeapi.UpdateRuntimeConfigRequest{
		RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: ranges}},
	})
	if err != nil {
		k.logger.Warn("the runtime did not take the pod range", "range", ranges, "error", err)
		return
	}
	k.health.mu.Lock()
	k.health.ranges = ranges
	k.health.mu.Unlock()
	if k.node != nil {
		k.node.Check()
	}
}

// runtimeHandler returns the handler of the pod's runtime class.
func (k *Kubelet) runtimeHandler(ctx context.Context, pod *corev1.Pod) (string, error) {
	name := pod.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return "", nil
	}
	class, err := runtimeClasses.Get(ctx, k.cfg.Client, "", *name)
	if err != nil {
		return "", fmt.Errorf("failed to get RuntimeClass %q: %w", *name, err)
	}
	return class.Handler, nil
}

// Exec implements handlers.Runner.
func (k *Kubelet) Exec(ctx context.Context, containerID string, cmd []string, timeout time.Duration) ([]byte, int32, error) {
	seconds := int64((timeout + time.Second - 1) / time.Second)
	if timeout == 0 {
		// Without a limit of its own the call takes as long as its context allows.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 24*time.Hour)
		defer cancel()
	}
	resp, err := k.cri.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: containerID, Cmd: cmd, Timeout: seconds})
	if err != nil {
		return nil, 0, err
	}
	return append(resp.Stdout, resp.Stderr...), resp.ExitCode, nil
}

const (
	maxImageNames = 5
)

// listImages returns the node's images for its status, the largest first.
func (k *Kubelet) listImages(ctx context.Context) ([]corev1.ContainerImage, error) {
	resp, err := k.cri.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	slices.SortFunc(resp.Images, func(a, b *runtimeapi.Image) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Id, b.Id)) })
	var out []corev1.ContainerImage
	for _, image := range resp.Images {
		if most := int(*k.cfg.Settings.NodeStatusMaxImages); most >= 0 && len(out) == most {
			break
		}
		names := slices.Concat(image.RepoDigests, image.RepoTags)
		if len(names) == 0 {
			continue
		}
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), maxImageNames)], SizeBytes: int64(image.Size)})
	}
	return out, nil
}
