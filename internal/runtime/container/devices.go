package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// addDevices gives the container its devices and the right to use them, and nothing else.
func addDevices(linux *specs.Linux, config *runtimeapi.ContainerConfig) error {
	if config.GetLinux().GetSecurityContext().GetPrivileged() {
		linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return addDeviceTree(linux, "/dev", "/dev", "rwm", false)
	}
	linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, device := range config.GetDevices() {
		source, err := filepath.EvalSymlinks(device.GetHostPath())
		if err != nil {
			return fmt.Errorf("device %s: %w", device.GetHostPath(), err)
		}
		access := device.GetPermissions()
		if strings.Trim(access, "rwm") != "" {
			return fmt.Errorf("device %s: invalid permissions %q", device.GetHostPath(), access)
		}
		info, err := os.Stat(source)
		if err != nil {
			return fmt.Errorf("device %s: %w", device.GetHostPath(), err)
		}
		if info.IsDir() {
			err = addDeviceTree(linux, source, device.GetContainerPath(), access, true)
		} else {
			err = addDevice(linux, source, device.GetContainerPath(), access, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ownDevices are places below /dev that each container has for itself.
var ownDevices = map[string]bool{"pts": true, "shm": true, "fd": true, "mqueue": true, ".lxc": true, ".lxd-mounts": true, ".udev": true}

func addDeviceTree(linux *specs.Linux, source, target, access string, rule bool) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a device came and went
			}
			return err
		}
		if entry.IsDir() {
			if path != source && ownDevices[entry.Name()] {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.Type()&fs.ModeDevice == 0 || entry.Name() == "console" {
			return nil
		}
		return addDevice(linux, path, filepath.Join(target, strings.TrimPrefix(path, source)), access, rule)
	})
}

func addDevice(linux *specs.Linux, source, target, access string, rule bool) error {
	var stat unix.Stat_t
	if err := unix.Stat(source, &stat); err != nil {
		return fmt.Errorf("device %s: %w", source, err)
	}
	var kind string
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFCHR:
		kind = "c"
	default:
		return fmt.Errorf("device %s: not a device", source)
	}
	major, minor := int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	mode := os.FileMode(stat.Mode & 0o7777)
	uid, gid := stat.Uid, stat.Gid
	linux.Devices = append(linux.Devices, specs.LinuxDevice{
		Path: target, Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &uid, GID: &gid,
	})
	if rule {
		linux.Resources.Devices = append(linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access,
		})
	}
	return nil
}
