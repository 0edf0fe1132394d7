package sandbox

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper/wire"
)

// shmBytes is the size of a pod's /dev/shm.
const shmBytes = 64 << 20

// Record is what is kept of a sandbox. Records are replaced, never changed.
type Record struct {
	ID        string
	Handler   string
	Config    Config
	Ready     bool
	CreatedAt time.Time
	IPs       []netip.Addr
	Shm       string // the host's path of /dev/shm; empty if the pod uses the node's
}

// recordJSON is the form on disk: the configuration in its own encoding, which keeps every field.
type recordJSON struct {
	ID        string
	Handler   string
	Config    []byte
	Ready     bool
	CreatedAt time.Time
	IPs       []netip.Addr
	Shm       string
}

// MarshalJSON implements json.Marshaler.
func (r *Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(recordJSON{r.ID, r.Handler, r.Config.Bytes(), r.Ready, r.CreatedAt, r.IPs, r.Shm})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Record) UnmarshalJSON(data []byte) error {
	var form recordJSON
	if err := json.Unmarshal(data, &form); err != nil {
		return err
	}
	config, err := decodeConfig(form.Config)
	if err != nil {
		return fmt.Errorf("decode sandbox configuration: %w", err)
	}
	*r = Record{form.ID, form.Handler, config, form.Ready, form.CreatedAt, form.IPs, form.Shm}
	return nil
}

// Options are the namespace options of a sandbox, never nil.
func Options(config *runtimeapi.PodSandboxConfig) *runtimeapi.NamespaceOption {
	if options := config.GetLinux().GetSecurityContext().GetNamespaceOptions(); options != nil {
		return options
	}
	return &runtimeapi.NamespaceOption{}
}

// HostNetwork tells whether the pod is in the node's network.
func HostNetwork(config *runtimeapi.PodSandboxConfig) bool {
	return Options(config).GetNetwork() == runtimeapi.NamespaceMode_NODE
}

// UserNamespace tells whether the pod has a user namespace of its own.
func UserNamespace(config *runtimeapi.PodSandboxConfig) bool {
	userns := Options(config).GetUsernsOptions()
	return userns != nil && userns.GetMode() == runtimeapi.NamespaceMode_POD
}

// Validate refuses a configuration that cannot be made.
func Validate(config *runtimeapi.PodSandboxConfig) error {
	metadata := config.GetMetadata()
	if metadata == nil || metadata.GetName() == "" || metadata.GetNamespace() == "" || metadata.GetUid() == "" {
		return fmt.Errorf("sandbox configuration lacks the pod's name, namespace or UID")
	}
	userns := Options(config).GetUsernsOptions()
	if userns == nil {
		return nil
	}
	switch userns.GetMode() {
	case runtimeapi.NamespaceMode_POD:
	case runtimeapi.NamespaceMode_NODE:
		if len(userns.GetUids())+len(userns.GetGids()) > 0 {
			return fmt.Errorf("mappings are given for the node's user namespace")
		}
		return nil
	default:
		return fmt.Errorf("unsupported user namespace mode %v", userns.GetMode())
	}
	if len(userns.GetUids()) != 1 || len(userns.GetGids()) != 1 {
		return fmt.Errorf("a user namespace needs exactly one mapping of users and one of groups")
	}
	for _, mapping := range [][]*runtimeapi.IDMapping{userns.GetUids(), userns.GetGids()} {
		if mapping[0].GetContainerId() != 0 || mapping[0].GetLength() == 0 {
			return fmt.Errorf("a user namespace's mapping must begin at ID 0 and not be empty")
		}
	}
	return nil
}

// KeeperRequest translates a configuration into the namespaces to make.
func KeeperRequest(id string, config *runtimeapi.PodSandboxConfig) *wire.CreateSandbox {
	options := Options(config)
	request := &wire.CreateSandbox{
		ID:       id,
		Hostname: config.GetHostname(),
		Network:  options.GetNetwork() != runtimeapi.NamespaceMode_NODE,
		IPC:      options.GetIpc() != runtimeapi.NamespaceMode_NODE,
		PID:      options.GetPid() == runtimeapi.NamespaceMode_POD,
		Sysctls:  config.GetLinux().GetSysctls(),
	}
	request.UTS = request.Network // the node's name belongs to the node's network
	if request.IPC {
		request.ShmBytes = shmBytes
	}
	if request.PID {
		request.Cgroup = Cgroup(config, id)
	}
	if request.Network {
		request.Sysctls = withPodDefaults(request.Sysctls, UserNamespace(config))
	}
	if UserNamespace(config) {
		request.UIDs = mappings(options.GetUsernsOptions().GetUids())
		request.GIDs = mappings(options.GetUsernsOptions().GetGids())
	}
	return request
}

// withPodDefaults lets a pod's processes use low ports and ping without privileges, as they may in
// other runtimes; nobody else shares the pod's network.
func withPodDefaults(sysctls map[string]string, userNamespace bool) map[string]string {
	merged := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
	if !userNamespace {
		merged["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	for name, value := range sysctls {
		merged[name] = value
	}
	return merged
}

// Cgroup is the cgroup of something in the pod, relative to the root of every hierarchy.
func Cgroup(config *runtimeapi.PodSandboxConfig, id string) string {
	parent := config.GetLinux().GetCgroupParent()
	return parent + "/" + id
}

func mappings(list []*runtimeapi.IDMapping) []wire.IDMapping {
	out := make([]wire.IDMapping, len(list))
	for i, m := range list {
		out[i] = wire.IDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()}
	}
	return out
}

// IPStrings writes the addresses of a sandbox, the primary one first.
func (r *Record) IPStrings() []string {
	list := make([]string, len(r.IPs))
	for i, ip := range r.IPs {
		list[i] = ip.String()
	}
	return slices.Clip(list)
}
