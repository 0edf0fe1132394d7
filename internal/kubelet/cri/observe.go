package cri

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// Observe returns all that the runtime knows of one pod.
func (c *Client) Observe(ctx context.Context, uid types.UID) (*lifecycle.Observed, error) {
	defer func(began time.Time) { c.metrics.observe.Observe(time.Since(began).Seconds()) }(time.Now())
	name, err := c.Name(ctx)
	if err != nil {
		return nil, err
	}
	selector := map[string]string{criconfig.OwnerLabel: c.owner, criconfig.PodUIDLabel: string(uid)}
	sandboxes, err := c.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: selector}})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes of pod %s: %w", uid, err)
	}
	containers, err := c.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: selector}})
	if err != nil {
		return nil, fmt.Errorf("list containers of pod %s: %w", uid, err)
	}
	o := &lifecycle.Observed{RuntimeName: name}
	if o.Sandboxes, err = c.sandboxes(ctx, sandboxes.Items); err != nil {
		return nil, err
	}
	for _, item := range containers.Containers {
		one, err := c.container(ctx, item)
		if IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		o.Containers = append(o.Containers, one)
	}
	slices.SortStableFunc(o.Containers, func(a, b lifecycle.Container) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.RestartCount, a.RestartCount))
	})
	return o, nil
}

// sandboxes returns them newest first; only the newest one's status is asked for, as only its addresses matter.
func (c *Client) sandboxes(ctx context.Context, items []*runtimeapi.PodSandbox) ([]lifecycle.Sandbox, error) {
	slices.SortFunc(items, func(a, b *runtimeapi.PodSandbox) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(b.GetMetadata().GetAttempt(), a.GetMetadata().GetAttempt()))
	})
	var out []lifecycle.Sandbox
	for i, item := range items {
		s := lifecycle.Sandbox{
			ID:        item.Id,
			Attempt:   item.GetMetadata().GetAttempt(),
			Ready:     item.State == runtimeapi.PodSandboxState_SANDBOX_READY,
			CreatedAt: time.Unix(0, item.CreatedAt),
		}
		if i == 0 {
			resp, err := c.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: item.Id})
			if IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("ask for the status of sandbox %s: %w", item.Id, err)
			}
			addStatus(&s, resp.Status)
		}
		out = append(out, s)
	}
	return out, nil
}

func addStatus(s *lifecycle.Sandbox, st *runtimeapi.PodSandboxStatus) {
	s.Ready = st.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY
	s.HostNetwork = st.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
	if ip := st.GetNetwork().GetIp(); ip != "" {
		s.IPs = append(s.IPs, ip)
		for _, more := range st.GetNetwork().GetAdditionalIps() {
			s.IPs = append(s.IPs, more.Ip)
		}
	}
}

// SandboxIPs returns the addresses of a sandbox.
func (c *Client) SandboxIPs(ctx context.Context, id string) ([]string, error) {
	resp, err := c.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return nil, err
	}
	var s lifecycle.Sandbox
	addStatus(&s, resp.Status)
	return s.IPs, nil
}

func (c *Client) container(ctx context.Context, item *runtimeapi.Container) (lifecycle.Container, error) {
	c.mu.Lock()
	known, ok := c.exited[item.Id]
	c.mu.Unlock()
	if ok && item.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		return known, nil
	}
	resp, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: item.Id})
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("ask for the status of container %s: %w", item.Id, err)
	}
	one := fromStatus(ctx, item.PodSandboxId, resp.Status)
	if one.State == lifecycle.Exited {
		c.mu.Lock()
		c.exited[item.Id] = one
		c.mu.Unlock()
	}
	return one, nil
}

// Summary is what a list tells of one pod: enough to see that it has changed.
type Summary struct {
	Namespace, Name string
	UID             types.UID
	Sandboxes       map[string]runtimeapi.PodSandboxState
	Containers      map[string]runtimeapi.ContainerState
}

// Equal tells whether nothing has changed.
func (s *Summary) Equal(o *Summary) bool {
	return o != nil && maps.Equal(s.Sandboxes, o.Sandboxes) && maps.Equal(s.Containers, o.Containers)
}

// Running tells whether a container may run or a sandbox is held.
func (s *Summary) Running() bool {
	for _, st := range s.Sandboxes {
		if st == runtimeapi.PodSandboxState_SANDBOX_READY {
			return true
		}
	}
	for _, st := range s.Containers {
		if st != runtimeapi.ContainerState_CONTAINER_EXITED {
			return true
		}
	}
	return false
}

// List returns a summary of all pods of this kubelet that the runtime knows.
func (c *Client) List(ctx context.Context) (map[types.UID]*Summary, error) {
	selector := map[string]string{criconfig.OwnerLabel: c.owner}
	sandboxes, err := c.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: selector}})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	containers, err := c.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: selector}})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	out := map[types.UID]*Summary{}
	pod := func(labels map[string]string) *Summary {
		uid := types.UID(labels[criconfig.PodUIDLabel])
		s := out[uid]
		if s == nil {
			s = &Summary{
				Namespace: labels[criconfig.PodNamespaceLabel], Name: labels[criconfig.PodNameLabel], UID: uid,
				Sandboxes: map[string]runtimeapi.PodSandboxState{}, Containers: map[string]runtimeapi.ContainerState{},
			}
			out[uid] = s
		}
		return s
	}
	for _, item := range sandboxes.Items {
		pod(item.Labels).Sandboxes[item.Id] = item.State
	}
	there := map[string]bool{}
	for _, item := range containers.Containers {
		pod(item.Labels).Containers[item.Id] = item.State
		there[item.Id] = true
	}
	c.mu.Lock()
	maps.DeleteFunc(c.exited, func(id string, _ lifecycle.Container) bool { return !there[id] })
	c.mu.Unlock()
	return out, nil
}

// Annotations returns what the annotations of a pod's containers tell of how they were made, by container name.
func (c *Client) Annotations(ctx context.Context, uid types.UID) (map[string]criconfig.Annotated, error) {
	selector := map[string]string{criconfig.OwnerLabel: c.owner, criconfig.PodUIDLabel: string(uid)}
	list, err := c.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: selector}})
	if err != nil {
		return nil, fmt.Errorf("list containers of pod %s: %w", uid, err)
	}
	out := map[string]criconfig.Annotated{}
	for _, item := range list.Containers {
		name := item.Labels[criconfig.ContainerNameLabel]
		if _, ok := out[name]; !ok || item.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			out[name] = criconfig.ParseAnnotations(item.Annotations)
		}
	}
	return out, nil
}
