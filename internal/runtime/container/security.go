package container

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/seccomp"
)

// Filter is an assembled seccomp filter; empty for none.
type Filter struct {
	Program []byte
	Flags   uint32
}

// seccompFilter assembles the filter that a container's profile asks for.
func seccompFilter(context *runtimeapi.LinuxContainerSecurityContext, caps []string) (Filter, error) {
	wanted := context.GetSeccomp()
	if context.GetPrivileged() || wanted == nil || wanted.GetProfileType() == runtimeapi.SecurityProfile_Unconfined {
		return Filter{}, nil
	}
	profile := seccomp.Default(caps)
	if wanted.GetProfileType() == runtimeapi.SecurityProfile_Localhost {
		path := strings.TrimPrefix(wanted.GetLocalhostRef(), "localhost/")
		data, err := os.ReadFile(path)
		if err != nil {
			return Filter{}, fmt.Errorf("cannot load seccomp profile %q: %w", path, err)
		}
		profile = &specs.LinuxSeccomp{}
		if err := json.Unmarshal(data, profile); err != nil {
			return Filter{}, fmt.Errorf("cannot load seccomp profile %q: %w", path, err)
		}
	}
	program, err := seccomp.Assemble(profile)
	if err != nil {
		return Filter{}, fmt.Errorf("assemble seccomp profile: %w", err)
	}
	flags, err := seccomp.Flags(profile)
	return Filter{program, flags}, err
}

// appArmorProfile names the profile to enter; empty for none.
func appArmorProfile(context *runtimeapi.LinuxContainerSecurityContext) (string, error) {
	wanted := context.GetApparmor()
	if wanted == nil || wanted.GetProfileType() == runtimeapi.SecurityProfile_Unconfined || context.GetPrivileged() {
		return "", nil
	}
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || !strings.HasPrefix(string(enabled), "Y") {
		if wanted.GetProfileType() == runtimeapi.SecurityProfile_Localhost {
			return "", errors.New("apparmor is not supported")
		}
		return "", nil
	}
	name := defaultAppArmor
	if wanted.GetProfileType() == runtimeapi.SecurityProfile_Localhost {
		name = strings.TrimPrefix(wanted.GetLocalhostRef(), "localhost/")
	}
	loaded, err := appArmorLoaded(name)
	if err != nil {
		return "", err
	}
	if loaded {
		return name, nil
	}
	if wanted.GetProfileType() == runtimeapi.SecurityProfile_Localhost {
		return "", fmt.Errorf("apparmor profile not found %s", name)
	}
	return name, loadDefaultAppArmor()
}

func appArmorLoaded(name string) (bool, error) {
	file, err := os.Open("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return false, fmt.Errorf("read the loaded AppArmor profiles: %w", err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if strings.HasPrefix(scanner.Text(), name+" (") {
			return true, nil
		}
	}
	return false, scanner.Err()
}

// selinuxLabel writes the label of a container's processes; empty where the kernel has no SELinux.
func selinuxLabel(options *runtimeapi.SELinuxOption) string {
	if options == nil || options.GetType() == "" {
		return ""
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return ""
	}
	return strings.Join([]string{
		pick(options.GetUser(), "system_u"), pick(options.GetRole(), "system_r"), options.GetType(), pick(options.GetLevel(), "s0"),
	}, ":")
}
