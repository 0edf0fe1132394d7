package cri

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/logs"
)

const (
	maxMessage      = 4096
	maxLogMessage   = 2048
	maxMessageLines = 80
	reasonCannotRun = "ContainerCannotRun"
)

var states = map[runtimeapi.ContainerState]lifecycle.State{
	runtimeapi.ContainerState_CONTAINER_CREATED: lifecycle.Created,
	runtimeapi.ContainerState_CONTAINER_RUNNING: lifecycle.Running,
	runtimeapi.ContainerState_CONTAINER_EXITED:  lifecycle.Exited,
}

func fromStatus(ctx context.Context, sandboxID string, s *runtimeapi.ContainerStatus) lifecycle.Container {
	info := criconfig.ParseAnnotations(s.Annotations)
	out := lifecycle.Container{
		ID:           s.Id,
		Name:         cmp.Or(s.Labels[criconfig.ContainerNameLabel], s.GetMetadata().GetName()),
		SandboxID:    sandboxID,
		RestartCount: info.RestartCount,
		State:        states[s.State],
		CreatedAt:    time.Unix(0, s.CreatedAt),
		Image:        s.GetImage().GetImage(),
		ImageRef:     s.ImageRef,
		ImageID:      cmp.Or(s.ImageId, s.ImageRef),
		Hash:         info.Hash,
		Applied:      info.Resources,
		LogPath:      s.LogPath,
		Resources:    resources(s.GetResources().GetLinux()),
		User:         user(s.GetUser().GetLinux()),
	}
	if s.StartedAt != 0 {
		out.StartedAt = time.Unix(0, s.StartedAt)
	}
	for _, m := range s.Mounts {
		if m.GetImage().GetImage() != "" {
			if out.ImageVolumes == nil {
				out.ImageVolumes = map[string]string{}
			}
			out.ImageVolumes[m.ContainerPath] = m.Image.Image
		}
	}
	if out.State != lifecycle.Exited {
		return out
	}
	out.FinishedAt = time.Unix(0, s.FinishedAt)
	out.ExitCode = s.ExitCode
	out.Reason = s.Reason
	if out.Reason == "" {
		out.Reason = "Completed"
		if s.ExitCode != 0 {
			out.Reason = "Error"
		}
	}
	out.Message = s.Message
	if text := terminationMessage(ctx, s, &info); text != "" {
		if out.Message != "" {
			out.Message += ": "
		}
		out.Message += text
	}
	return out
}

// terminationMessage reads what the container left for people: its message file or, if that's empty, it failed and wants so, its last log lines.
func terminationMessage(ctx context.Context, s *runtimeapi.ContainerStatus, info *criconfig.Annotated) string {
	fallback := info.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError && s.ExitCode != 0 && s.Reason != reasonCannotRun
	for _, m := range s.Mounts {
		if info.TerminationMessagePath == "" || m.ContainerPath != info.TerminationMessagePath {
			continue
		}
		data, err := readTail(m.HostPath, maxMessage)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Sprintf("Error on reading termination log %s: %v", m.HostPath, err)
		}
		if len(data) > 0 {
			return string(data)
		}
	}
	if !fallback {
		return ""
	}
	lines := int64(maxMessageLines)
	var buf bytes.Buffer
	if err := logs.Read(ctx, s.LogPath, logs.Options{Tail: &lines}, &buf, &buf); err != nil {
		return fmt.Sprintf("Error on reading termination message from logs: %v", err)
	}
	return string(buf.Bytes()[max(0, buf.Len()-maxLogMessage):])
}

// readTail reads the end of a regular file. What lies there may be the pod's: a link, a pipe or the node of a device is not opened by its rights.
func readTail(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	if _, err := f.Seek(max(0, info.Size()-limit), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// resources turns kernel values into those of the API.
func resources(r *runtimeapi.LinuxContainerResources) *corev1.ResourceRequirements {
	if r == nil {
		return nil
	}
	out := &corev1.ResourceRequirements{Limits: corev1.ResourceList{}, Requests: corev1.ResourceList{}}
	if r.CpuQuota > 0 && r.CpuPeriod > 0 {
		milli := r.CpuQuota * 1000 / r.CpuPeriod
		if milli > 10 { // below, the kernel's least quota hides what was asked for
			out.Limits[corev1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
		}
	}
	if r.CpuShares > 2 {
		milli := (r.CpuShares*1000 + 1023) / 1024
		out.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
	}
	if r.MemoryLimitInBytes > 0 {
		out.Limits[corev1.ResourceMemory] = *resource.NewQuantity(r.MemoryLimitInBytes, resource.BinarySI)
	}
	return out
}

func user(u *runtimeapi.LinuxContainerUser) *corev1.ContainerUser {
	if u == nil {
		return nil
	}
	return &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.Uid, GID: u.Gid, SupplementalGroups: u.SupplementalGroups}}
}
