package iscsi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sysfs is where the kernel tells its iSCSI sessions and their devices: the mount point of the file system.
type sysfs string

// session is a connection to a target by one portal.
type session struct {
	dir  string // of the session's device
	host string // number of the SCSI host
}

// session finds the one to a target by a portal through an interface; nil if there is none.
func (s sysfs) session(d *disk, portal string) (*session, error) {
	entries, err := filepath.Glob(filepath.Join(string(s), "class", "iscsi_session", "session*"))
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if attribute(entry, "targetname") != d.Target || attribute(entry, "ifacename") != d.Interface {
			continue
		}
		device, err := filepath.EvalSymlinks(filepath.Join(entry, "device"))
		if errors.Is(err, os.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("find the device of an iSCSI session: %w", err)
		}
		if host := strings.TrimPrefix(filepath.Base(filepath.Dir(device)), "host"); connects(device, portal) {
			return &session{dir: device, host: host}, nil
		}
	}
	return nil, nil
}

// connects tells whether a session's connection was made to a portal.
func connects(device, portal string) bool {
	found, err := filepath.Glob(filepath.Join(device, "connection*", "iscsi_connection", "connection*"))
	if err != nil {
		return false
	}
	for _, c := range found {
		if net.JoinHostPort(attribute(c, "persistent_address"), attribute(c, "persistent_port")) == portal {
			return true
		}
	}
	return false
}

// attribute reads one of an object's; empty if it has gone.
func attribute(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// scan lets the kernel look for a unit, and for no other: those that it finds by itself would have to be given back too.
func (s sysfs) scan(n *session, unit int32) error {
	channelAndTarget := "0 0"
	if found, err := filepath.Glob(filepath.Join(n.dir, "target*")); err == nil && len(found) > 0 {
		if parts := strings.Split(filepath.Base(found[0]), ":"); len(parts) == 3 {
			channelAndTarget = parts[1] + " " + parts[2]
		}
	}
	file := filepath.Join(string(s), "class", "scsi_host", "host"+n.host, "scan")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%s %d", channelAndTarget, unit), 0o200); err != nil {
		return fmt.Errorf("look for unit %d: %w", unit, err)
	}
	return nil
}

// unit returns the name of a unit's block device, as "sdb"; empty if it has none.
func (n *session) unit(number int32) string {
	return device(filepath.Join(n.dir, "target*", "*:*:*:"+strconv.Itoa(int(number))))
}

// empty tells whether the session has no unit left.
func (n *session) empty() bool { return device(filepath.Join(n.dir, "target*", "*:*:*:*")) == "" }

func device(pattern string) string {
	found, err := filepath.Glob(filepath.Join(pattern, "block", "*"))
	if err != nil || len(found) == 0 {
		return ""
	}
	return filepath.Base(found[0])
}

// multipath returns the device mapper's name of the disk that a block device is a path to; empty if there is none.
func (s sysfs) multipath(device string) string {
	found, err := filepath.Glob(filepath.Join(string(s), "block", device, "holders", "dm-*"))
	if err != nil {
		return ""
	}
	for _, f := range found {
		if strings.HasPrefix(attribute(filepath.Join(string(s), "block", filepath.Base(f)), "dm/uuid"), "mpath-") {
			return filepath.Base(f)
		}
	}
	return ""
}

// remove lets the kernel forget a block device. Absence is success.
func (s sysfs) remove(device string) error {
	err := os.WriteFile(filepath.Join(string(s), "block", device, "device", "delete"), []byte("1"), 0o200)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove device %s: %w", device, err)
	}
	return nil
}
