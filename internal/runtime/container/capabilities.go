package container

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// capabilityNames lists all capabilities in the order of the kernel's numbers.
var capabilityNames = strings.Fields(`
CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID
CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW
CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT
CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD
CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG
CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

// defaultCapabilities are a container's that asks for nothing else.
var defaultCapabilities = strings.Fields(`
CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP
CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE`)

// available lists the capabilities that this machine can give away at all.
func available() ([]string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("read this process's capabilities: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		value, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read this process's capabilities: %w", err)
		}
		var names []string
		for ; set != 0; set &= set - 1 {
			if number := bits.TrailingZeros64(set); number < len(capabilityNames) {
				names = append(names, capabilityNames[number])
			}
		}
		return names, nil
	}
	return nil, fmt.Errorf("read this process's capabilities: no bounding set")
}

func capabilityName(name string) string {
	name = strings.ToUpper(name)
	if name == "ALL" || strings.HasPrefix(name, "CAP_") {
		return name
	}
	return "CAP_" + name
}

// capabilities applies a container's wishes to the default set.
func capabilities(context *runtimeapi.LinuxContainerSecurityContext) (*specs.LinuxCapabilities, error) {
	all, err := available()
	if err != nil {
		return nil, err
	}
	if context.GetPrivileged() {
		return &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all, Inheritable: []string{}}, nil
	}
	wish := context.GetCapabilities()
	added, dropped := names(wish.GetAddCapabilities()), names(wish.GetDropCapabilities())
	set := slices.Clone(defaultCapabilities)
	if slices.Contains(added, "ALL") {
		set = slices.Clone(all)
	}
	if slices.Contains(dropped, "ALL") {
		set = nil
	}
	for _, name := range added {
		if name == "ALL" {
			continue
		}
		if !slices.Contains(capabilityNames, name) {
			return nil, fmt.Errorf("unknown capability %q", name)
		}
		if !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	set = slices.DeleteFunc(set, func(name string) bool {
		return !slices.Contains(all, name) || (slices.Contains(dropped, name) && name != "ALL")
	})
	result := &specs.LinuxCapabilities{Bounding: set, Effective: set, Permitted: set, Inheritable: []string{}}
	for _, name := range names(wish.GetAddAmbientCapabilities()) {
		if slices.Contains(set, name) {
			result.Inheritable = append(result.Inheritable, name)
			result.Ambient = append(result.Ambient, name)
		}
	}
	return result, nil
}

func names(list []string) []string {
	out := make([]string, len(list))
	for i, name := range list {
		out[i] = capabilityName(name)
	}
	return out
}
