package server

import (
	"reflect"
	"slices"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
)

// TestEveryFieldOfAConfigurationIsThoughtOf fails when a new version of libcontainer lets a container ask for something that
// a script neither says nor refuses.
func TestEveryFieldOfAConfigurationIsThoughtOf(t *testing.T) {
	for _, test := range []struct {
		of    any
		known []string
	}{
		{configs.Config{}, []string{
			// Said by the script.
			"Rootfs", "Readonlyfs", "RootPropagation", "Mounts", "Devices", "Namespaces", "Cgroups", "OomScoreAdj", "MaskPaths", "ReadonlyPaths",
			// Refused.
			"NoPivotRoot", "ParentDeathSignal", "Umask", "NetDevices", "MountLabel", "Hostname", "Domainname", "Networks", "Routes", "AppArmorProfile",
			"ProcessLabel", "UIDMappings", "GIDMappings", "Sysctl", "Seccomp", "Hooks", "NoNewKeyring", "IntelRdt", "MemoryPolicy", "RootlessEUID",
			"RootlessCgroups", "TimeOffsets", "Scheduler", "Personality", "IOPriority", "ExecCPUAffinity",
			// The process has its own, or nothing is done with it.
			"Capabilities", "Rlimits", "NoNewPrivileges", "Version", "Labels",
		}},
		{configs.Mount{}, []string{
			"Source", "Destination", "Device", "Flags", "ClearedFlags", "PropagationFlags", "Data", // said
			"RecAttr", "Extensions", "IDMapping", // refused
			"Relabel", // not used by libcontainer
		}},
	} {
		kind := reflect.TypeOf(test.of)
		for i := range kind.NumField() {
			if name := kind.Field(i).Name; !slices.Contains(test.known, name) {
				t.Errorf("field %s of %s is not thought of", name, kind)
			}
		}
	}
}

func TestUncommonConfigurationsAreRefused(t *testing.T) {
	for name, config := range map[string]*configs.Config{
		"a_keyring":  {},
		"a_sysctl":   {NoNewKeyring: true, Sysctl: map[string]string{"net.core.somaxconn": "1"}},
		"a_label":    {NoNewKeyring: true, ProcessLabel: "system_u:system_r:container_t:s0"},
		"a_profile":  {NoNewKeyring: true, AppArmorProfile: "cri-containerd.apparmor.d"},
		"a_mapping":  {NoNewKeyring: true, UIDMappings: []configs.IDMap{{Size: 1}}},
		"a_schedule": {NoNewKeyring: true, Scheduler: &configs.Scheduler{}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkCommon(config); err == nil {
				t.Error("was taken")
			}
		})
	}
	if err := checkCommon(&configs.Config{NoNewKeyring: true}); err != nil {
		t.Errorf("an ordinary one is refused: %v", err)
	}
}
