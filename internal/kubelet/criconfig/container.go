package criconfig

import (
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// ContainerInput is what a container is made from.
type ContainerInput struct {
	Pod          *corev1.Pod
	Ref          lifecycle.Ref
	RestartCount int32
	// ImageRef is the image as the runtime knows it; ImageUser the user that it names.
	ImageRef  string
	ImageUser ImageUser
	Env       []EnvVar
	Mounts    []*runtimeapi.Mount
	Devices   []*runtimeapi.Device
	CDI       []*runtimeapi.CDIDevice
	// Annotations go to the runtime beside the kubelet's own.
	Annotations map[string]string
	// TargetID is the container whose process namespace an ephemeral one joins; "" for none.
	TargetID string
	Users    *runtimeapi.UserNamespace
	// ExtraGroups are supplemental groups that the pod's volumes ask for.
	ExtraGroups []int64
}

// Container returns the runtime's description of a container.
func Container(n *Node, in ContainerInput) (*runtimeapi.ContainerConfig, error) {
	c := in.Ref.Spec(in.Pod)
	if err := VerifyNonRoot(in.Pod, c, in.ImageUser); err != nil {
		return nil, err
	}
	sc, err := containerSecurity(n, &in, c)
	if err != nil {
		return nil, err
	}
	lookup := envLookup(in.Env)
	config := &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: uint32(in.RestartCount)},
		Image:       &runtimeapi.ImageSpec{Image: in.ImageRef, UserSpecifiedImage: c.Image},
		Command:     expandAll(c.Command, lookup),
		Args:        expandAll(c.Args, lookup),
		WorkingDir:  c.WorkingDir,
		Mounts:      in.Mounts,
		Devices:     in.Devices,
		CDIDevices:  in.CDI,
		Labels:      containerLabels(n, in.Pod, c),
		Annotations: containerAnnotations(in.Pod, c, in.RestartCount, in.Annotations),
		LogPath:     filepath.Join(c.Name, fmt.Sprintf("%d.log", in.RestartCount)),
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		Linux:       &runtimeapi.LinuxContainerConfig{Resources: Resources(n, in.Pod, c), SecurityContext: sc},
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		config.StopSignal = runtimeapi.Signal(runtimeapi.Signal_value[string(*c.Lifecycle.StopSignal)])
	}
	for _, e := range in.Env {
		config.Envs = append(config.Envs, &runtimeapi.KeyValue{Key: e.Name, Value: []byte(e.Value)})
	}
	if in.Users != nil {
		for _, m := range config.Mounts {
			m.UidMappings, m.GidMappings = in.Users.Uids, in.Users.Gids
		}
	}
	return config, nil
}
