package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Version tells what this runtime is.
func (rt *Runtime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version: "0.1.0", RuntimeName: "clipper", RuntimeVersion: rt.cfg.Version, RuntimeApiVersion: "v1",
	}, nil
}

// Status tells whether the runtime and the network can take pods, and what they offer.
func (rt *Runtime) Status(_ context.Context, request *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	ready := &runtimeapi.RuntimeCondition{Type: "RuntimeReady", Status: true}
	connected := &runtimeapi.RuntimeCondition{Type: "NetworkReady", Status: true}
	if err := rt.cfg.Network.Ready(); err != nil {
		connected.Status = false
		connected.Reason = "NetworkPluginNotReady"
		connected.Message = err.Error()
	}
	response := &runtimeapi.StatusResponse{
		Status:   &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{ready, connected}},
		Features: &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}
	features := &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: hasMountSetattr(), UserNamespaces: hasMountSetattr()}
	for _, handler := range handlers {
		response.RuntimeHandlers = append(response.RuntimeHandlers, &runtimeapi.RuntimeHandler{Name: handler, Features: features})
	}
	if request.GetVerbose() {
		info, err := json.Marshal(map[string]any{"stateDir": rt.cfg.StateDir, "runDir": rt.cfg.RunDir, "cgroupRoot": rt.cfg.CgroupRoot})
		if err != nil {
			return nil, fmt.Errorf("encode runtime info: %w", err)
		}
		response.Info = map[string]string{"config": string(info)}
	}
	return response, nil
}

// hasMountSetattr tells whether the kernel can change a whole tree of mounts, which recursive
// read-only mounts and mapped owners need.
var hasMountSetattr = sync.OnceValue(func() bool {
	err := unix.MountSetattr(-1, "", 0, &unix.MountAttr{})
	return err != unix.ENOSYS
})

// UpdateRuntimeConfig takes the node's address ranges from the kubelet.
func (rt *Runtime) UpdateRuntimeConfig(ctx context.Context, request *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	var ranges []netip.Prefix
	for _, text := range strings.Split(request.GetRuntimeConfig().GetNetworkConfig().GetPodCidr(), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, invalid("pod CIDR: %v", err)
		}
		ranges = append(ranges, prefix)
	}
	if len(ranges) == 0 {
		return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
	}
	if err := rt.cfg.Network.SetPodCIDRs(ctx, ranges); err != nil {
		return nil, fmt.Errorf("set pod address ranges: %w", err)
	}
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}

// RuntimeConfig tells how the runtime handles cgroups.
func (rt *Runtime) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{
		Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS},
	}, nil
}
