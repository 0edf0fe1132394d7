package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/cri"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/downward"
	"clipper.dev/clipper/internal/kubelet/handlers"
	"clipper.dev/clipper/internal/kubelet/images"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// Waiting reasons.
const (
	reasonCrash     = "CrashLoopBackOff"
	reasonConfig    = "CreateContainerConfigError"
	reasonCreate    = "CreateContainerError"
	reasonRun       = "RunContainerError"
	reasonPostStart = "PostStartHookError"
)

// configRetry is how soon a container that couldn't be made is tried again when nothing changes.
const configRetry = 10 * time.Second

// start starts one container, or leaves the reason why it doesn't run.
func (r *syncRun) start(ctx context.Context, ref lifecycle.Ref) {
	c := ref.Spec(r.pod)
	why := r.tryStart(ctx, ref, c)
	if ctx.Err() != nil {
		return
	}
	if why == nil {
		r.k.metrics.start.containers.WithLabelValues(containerType(ref.Class)).Inc()
	} else {
		why.spec = criconfig.Hash(c)
		if why.Reason != reasonCrash {
			r.k.metrics.start.containerErrors.WithLabelValues(containerType(ref.Class), why.Reason).Inc()
		}
	}
	r.out.waiting[c.Name] = why
}

func (r *syncRun) event(c *corev1.Container, eventType, reason, format string, args ...any) {
	r.k.events.Eventf(criconfig.ContainerReference(r.pod, c.Name), eventType, reason, format, args...)
}

// fail records why a container doesn't run and returns that.
func (r *syncRun) fail(c *corev1.Container, reason, message string) *waitingUntil {
	r.event(c, corev1.EventTypeWarning, "Failed", "Error: %s", message)
	return &waitingUntil{Waiting: lifecycle.Waiting{Reason: reason, Message: message}, until: time.Now().Add(configRetry)}
}

// failImage records that an image isn't there and returns why; nil when the context has ended.
func (r *syncRun) failImage(c *corev1.Container, err error) *waitingUntil {
	var failure *images.Error
	if !errors.As(err, &failure) {
		return nil
	}
	r.event(c, corev1.EventTypeWarning, "Failed", "Error: %s", failure.Reason)
	until := failure.RetryAt
	if until.IsZero() {
		until = time.Now().Add(configRetry)
	}
	if failure.Reason == images.ReasonPull {
		until = time.Now().Add(time.Second) // the next look shows that pulling is backed off
	}
	return &waitingUntil{Waiting: lifecycle.Waiting{Reason: failure.Reason, Message: failure.Message}, until: until}
}

func (r *syncRun) tryStart(ctx context.Context, ref lifecycle.Ref, c *corev1.Container) *waitingUntil {
	seen := r.observed.Container(c.Name)
	if why := r.checkCrash(c, seen); why != nil {
		return why
	}
	image, err := r.k.images.Ensure(ctx, images.Request{
		Pod: r.pod, About: criconfig.ContainerReference(r.pod, c.Name), Image: c.Image, Policy: c.ImagePullPolicy,
		Secrets: r.secrets, Sandbox: r.sandbox, Handler: r.handler,
	})
	if err != nil {
		return r.failImage(c, err)
	}
	r.w.pulling.Add(int64(image.Pulled))
	config, err := r.describe(ctx, ref, c, seen, image)
	var failure *images.Error
	if errors.As(err, &failure) { // that of an image volume
		return r.failImage(c, failure)
	}
	if err != nil {
		return r.fail(c, reasonConfig, cri.Message(err))
	}
	r.k.resources.Pin(r.pod, c.Name, config.Linux.Resources)
	created, err := r.k.cri.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: r.sandboxID, Config: config, SandboxConfig: r.sandbox})
	if err != nil {
		return r.fail(c, reasonCreate, cri.Message(err))
	}
	r.event(c, corev1.EventTypeNormal, "Created", "Container created")
	r.k.resources.Started(r.pod, c.Name)
	return r.launch(ctx, c, created.ContainerId, filepath.Join(r.sandbox.LogDirectory, config.LogPath))
}

// crashKey is what exits are counted by: a container with another image has a record of its own.
func crashKey(c *corev1.Container) string { return c.Name + " " + criconfig.Hash(c) }

// checkCrash makes a container that keeps exiting wait.
func (r *syncRun) checkCrash(c *corev1.Container, seen *lifecycle.Container) *waitingUntil {
	if seen == nil || seen.State != lifecycle.Exited {
		return nil
	}
	now, key := time.Now(), crashKey(c)
	crash := r.crashes[key]
	if until := crash.Until(seen.FinishedAt, now); !until.IsZero() {
		r.event(c, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", c.Name, criconfig.PodName(r.pod))
		return &waitingUntil{until: until, Waiting: lifecycle.Waiting{
			Reason:  reasonCrash,
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", crash.Wait, c.Name, criconfig.PodName(r.pod)),
		}}
	}
	crash.Restart(seen.FinishedAt, now, r.k.cfg.parsed.crashWaits)
	r.out.crashes[key] = &crash
	return nil
}

// launch starts a created container and runs its post-start hook.
func (r *syncRun) launch(ctx context.Context, c *corev1.Container, id, log string) *waitingUntil {
	hook := c.Lifecycle != nil && c.Lifecycle.PostStart != nil
	if hook {
		r.w.hooking(c.Name, true)
		defer r.w.hooking(c.Name, false)
	}
	if _, err := r.k.cri.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		return r.fail(c, reasonRun, cri.Message(err))
	}
	r.event(c, corev1.EventTypeNormal, "Started", "Container started")
	r.k.logLinks.add(r.pod, c.Name, id, log)
	if !hook {
		return nil
	}
	target := &handlers.Target{Pod: r.pod, Container: c, ContainerID: id}
	if ips := r.addresses(); len(ips) > 0 {
		target.IP = ips[0]
	}
	err := r.k.metrics.hooks.Hook(ctx, r.k, target, c.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	r.event(c, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
	kill := lifecycle.Kill{ID: id, Name: c.Name, Message: "FailedPostStartHook"}
	if kerr := r.w.killContainer(ctx, killInput{pod: r.pod, observed: r.observed, kill: kill}); kerr != nil {
		r.w.logger.Warn("container not killed after its post-start hook failed", "container", c.Name, "error", kerr)
	}
	return &waitingUntil{Waiting: lifecycle.Waiting{Reason: reasonPostStart, Message: err.Error()}}
}

// describe resolves everything that the container's description refers to.
func (r *syncRun) describe(ctx context.Context, ref lifecycle.Ref, c *corev1.Container, seen *lifecycle.Container, image images.Image) (*runtimeapi.ContainerConfig, error) {
	node := downward.Node{HostIPs: r.k.hostIPs, PodIPs: r.addresses(), Allocatable: r.k.allocatable}
	services, err := r.k.serviceEnv(ctx, r.pod)
	if err != nil {
		return nil, err
	}
	env, err := criconfig.Environment(ctx, criconfig.EnvInput{
		Pod: r.pod, Container: c, Services: services, Sources: r.k.objects, Node: node, ReadFile: r.readFile,
	})
	if err != nil {
		return nil, err
	}
	mounts, err := r.k.volumes.ContainerMounts(volumes.MountInput{
		UID: r.pod.UID, Container: c, Volumes: r.volumes, Env: env, RecursiveReadOnly: r.k.recursiveReadOnly(r.handler),
		ImageRef: func(v *corev1.ImageVolumeSource) (string, error) { return r.volumeImage(ctx, c, v) },
	})
	if err != nil {
		return nil, err
	}
	if mounts, err = r.ownMounts(c, mounts); err != nil {
		return nil, err
	}
	restarts, err := r.restartCount(c, seen)
	if err != nil {
		return nil, err
	}
	target, err := r.target(ref)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(r.k.translate.PodLogDir(r.pod), c.Name), 0o755); err != nil {
		return nil, fmt.Errorf("create container log directory for container %s failed: %w", c.Name, err)
	}
	claimed, err := r.k.dra.Devices(r.pod, c)
	if err != nil {
		return nil, err
	}
	plugged, err := r.k.resources.Options(ctx, r.pod, c)
	if err != nil {
		return nil, err
	}
	return criconfig.Container(r.k.translate, criconfig.ContainerInput{
		Pod: r.pod, Ref: ref, RestartCount: restarts, ImageRef: image.Ref, ImageUser: image.User,
		Env: slices.Concat(plugged.Env, env), Mounts: slices.Concat(plugged.Mounts, mounts), Devices: slices.Concat(plugged.Devices, r.devices(c)),
		CDI: slices.Concat(claimed, plugged.CDI), Annotations: plugged.Annotations, TargetID: target, Users: r.users,
	})
}

// devices lists the block devices of volumes in block mode.
func (r *syncRun) devices(c *corev1.Container) []*runtimeapi.Device {
	var out []*runtimeapi.Device
	for _, d := range c.VolumeDevices {
		if v := r.volumes[d.Name]; v.Device != "" {
			permissions := "mrw"
			if v.ReadOnly {
				permissions = "r"
			}
			out = append(out, &runtimeapi.Device{HostPath: v.Device, ContainerPath: d.DevicePath, Permissions: permissions})
		}
	}
	return out
}

// volumeImage pulls the image of an image volume.
func (r *syncRun) volumeImage(ctx context.Context, c *corev1.Container, v *corev1.ImageVolumeSource) (string, error) {
	image, err := r.k.images.Ensure(ctx, images.Request{
		Pod: r.pod, About: criconfig.ContainerReference(r.pod, c.Name), Image: v.Reference, Policy: v.PullPolicy,
		Secrets: r.secrets, Sandbox: r.sandbox, Handler: r.handler,
	})
	r.w.pulling.Add(int64(image.Pulled))
	r.k.metrics.start.imageVolume(err)
	return image.Ref, err
}

// maxEnvFile bounds an environment file.
const maxEnvFile = 64 << 10

// readFile reads a regular file of a volume, never leaving the volume: the pod may have put pipes and nodes of devices there.
func (r *syncRun) readFile(volume, path string) ([]byte, error) {
	v, ok := r.volumes[volume]
	if !ok || v.Path == "" {
		return nil, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", volume)
	}
	root, err := os.OpenRoot(v.Path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, maxEnvFile))
}

// ownMounts adds the hosts file and the termination message, unless the pod mounts something of its own there.
func (r *syncRun) ownMounts(c *corev1.Container, mounts []*runtimeapi.Mount) ([]*runtimeapi.Mount, error) {
	const hosts = "/etc/hosts"
	taken := false
	for _, m := range mounts {
		taken = taken || filepath.Clean(m.ContainerPath) == hosts
	}
	if !taken {
		path := filepath.Join(r.k.volumes.PodDir(r.pod.UID), "etc-hosts")
		content, err := criconfig.HostsFile(r.k.translate, r.pod, r.addresses())
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return nil, fmt.Errorf("write the pod's hosts file: %w", err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return nil, fmt.Errorf("write the pod's hosts file: %w", err)
		}
		mounts = append(mounts, &runtimeapi.Mount{HostPath: path, ContainerPath: hosts})
	}
	if c.TerminationMessagePath == "" {
		return mounts, nil
	}
	dir := filepath.Join(r.k.volumes.PodDir(r.pod.UID), "containers", c.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the termination message: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%08x", rand.Uint32()))
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return nil, fmt.Errorf("make the termination message: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // the umask doesn't count
		return nil, fmt.Errorf("make the termination message: %w", err)
	}
	target := c.TerminationMessagePath
	if !filepath.IsAbs(target) {
		target = filepath.Join("/", target)
	}
	return append(mounts, &runtimeapi.Mount{HostPath: path, ContainerPath: target}), nil
}

// restartCount returns how often the container was started before. When the runtime has forgotten, its logs tell.
func (r *syncRun) restartCount(c *corev1.Container, seen *lifecycle.Container) (int32, error) {
	if seen != nil {
		return seen.RestartCount + 1, nil
	}
	entries, err := os.ReadDir(filepath.Join(r.k.translate.PodLogDir(r.pod), c.Name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count the container's logs: %w", err)
	}
	count := int32(0)
	for _, e := range entries {
		if first, _, ok := strings.Cut(e.Name(), "."); ok {
			if n, err := strconv.Atoi(first); err == nil {
				count = max(count, int32(n)+1)
			}
		}
	}
	return count, nil
}

// target finds the container that an ephemeral one looks into.
func (r *syncRun) target(ref lifecycle.Ref) (string, error) {
	if ref.Class != lifecycle.Ephemeral {
		return "", nil
	}
	name := r.pod.Spec.EphemeralContainers[ref.Index].TargetContainerName
	if name == "" {
		return "", nil
	}
	c := r.observed.Container(name)
	if c == nil || c.State != lifecycle.Running {
		return "", fmt.Errorf("unable to find target container %q", name)
	}
	return c.ID, nil
}
