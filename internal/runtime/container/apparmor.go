package container

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// defaultAppArmor is the name of the profile that RuntimeDefault means.
const defaultAppArmor = "clipper-default"

// appArmorText lets a container do what its other confinements leave, except to reach the kernel's controls.
const appArmorText = `
profile clipper-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=clipper-default,
  ptrace (trace,read,tracedby,readby) peer=clipper-default,
  deny mount,
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`

// loadDefaultAppArmor gives the profile to the kernel.
func loadDefaultAppArmor() error {
	cmd := exec.Command("apparmor_parser", "-Kr")
	cmd.Stdin = strings.NewReader(appArmorText)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("load the default AppArmor profile: %s: %w", strings.TrimSpace(stderr.String()), err)
	}
	return nil
}
