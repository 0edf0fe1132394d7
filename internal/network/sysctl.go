package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// routerSysctls make the node forward its pods' packets.
func (n *Network) routerSysctls() error {
	settings := [][2]string{
		{"net/ipv4/ip_forward", "1"},
	}
	for _, cidr := range n.cfg.ClusterCIDRs {
		if cidr.Addr().Is6() {
			settings = append(settings, [2]string{"net/ipv6/conf/all/forwarding", "1"})
			break
		}
	}
	for _, s := range settings {
		if err := setSysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// setSysctl writes only what differs, so that a read-only /proc/sys with the right values is fine.
func setSysctl(name, value string) error {
	path := "/proc/sys/" + name
	current, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the kernel has no setting %s", strings.ReplaceAll(name, "/", "."))
	}
	if err == nil && strings.TrimSpace(string(current)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %s: %w", strings.ReplaceAll(name, "/", "."), value, err)
	}
	return nil
}
