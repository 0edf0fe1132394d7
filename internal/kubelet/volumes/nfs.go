package volumes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// nfs is a directory that a server exports, by the pod's own word or that of a persistent volume. It needs the node's mount.nfs.
type nfs struct{}

func (nfs) Name() string            { return "kubernetes.io/nfs" }
func (nfs) Supports(s *Source) bool { return nfsSource(s) != nil }
func (nfs) InMemory() bool          { return false }

func nfsSource(s *Source) *corev1.NFSVolumeSource {
	if s.PV != nil {
		return s.PV.Spec.NFS
	}
	return s.Volume.NFS
}

func (nfs) Mount(ctx context.Context, r *Request) (Mounted, error) {
	source := nfsSource(&r.Source)
	if err := os.MkdirAll(r.Dir, dirMode); err != nil {
		return Mounted{}, fmt.Errorf("make directory: %w", err)
	}
	mounted, err := IsMountPoint(r.Dir)
	if err != nil {
		return Mounted{}, err
	}
	if mounted {
		return Mounted{Path: r.Dir, ReadOnly: source.ReadOnly}, nil
	}
	var options []string
	if source.ReadOnly {
		options = append(options, "ro")
	}
	if r.PV != nil {
		options = append(options, r.PV.Spec.MountOptions...)
	}
	server := source.Server
	if strings.Contains(server, ":") && !strings.HasPrefix(server, "[") {
		server = "[" + server + "]"
	}
	args := []string{"-t", "nfs"}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	args = append(args, "--", server+":"+source.Path, r.Dir)
	if out, err := exec.CommandContext(ctx, "mount", args...).CombinedOutput(); err != nil {
		return Mounted{}, fmt.Errorf("mount %s:%s: %w: %s", server, source.Path, err, strings.TrimSpace(string(out)))
	}
	return Mounted{Path: r.Dir, ReadOnly: source.ReadOnly}, nil
}

func (nfs) Unmount(_ context.Context, dir string) error { return Unmount(dir) }
