package seccomp

import (
	"fmt"
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// arch is one way to enter the kernel.
type arch struct {
	audit    uint32
	syscalls map[string]uint32
}

var arches = map[specs.Arch]arch{
	specs.ArchX86_64:  {unix.AUDIT_ARCH_X86_64, syscallsX86_64},
	specs.ArchX86:     {unix.AUDIT_ARCH_I386, syscallsX86},
	specs.ArchAARCH64: {unix.AUDIT_ARCH_AARCH64, syscallsAArch64},
	specs.ArchARM:     {unix.AUDIT_ARCH_ARM, syscallsARM},
}

// native is this machine's own architecture.
func native() (specs.Arch, error) {
	switch runtime.GOARCH {
	case "amd64":
		return specs.ArchX86_64, nil
	case "arm64":
		return specs.ArchAARCH64, nil
	}
	return "", fmt.Errorf("no seccomp filters on %s", runtime.GOARCH)
}
