package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// floorCgroup is above the floor's cgroups.
const floorCgroup = "clipper-bench-floor"

// measureFloor makes what the kernel needs to keep a pod apart, with nobody's program in it, and tells what it uses for that.
func measureFloor(ctx context.Context, scratch string, r *results) (err error) {
	dir := filepath.Join(scratch, "floor")
	if err := removeFloor(dir); err != nil { // an earlier run's, cut off
		return err
	}
	nobody := func() ([]int, error) { return nil, nil }
	before, err := settledMemory(ctx, nobody)
	if err != nil {
		return err
	}
	var pods []*barePod
	defer func() {
		for _, p := range pods {
			err = errors.Join(err, p.close())
		}
		err = errors.Join(err, removeFloor(dir))
	}()
	for i := range crowd {
		p, err := newBarePod(filepath.Join(dir, strconv.Itoa(i)), i)
		pods = append(pods, p)
		if err != nil {
			return err
		}
	}
	after, err := settledMemory(ctx, nobody)
	if err != nil {
		return err
	}
	grown := after.minus(before)
	r.add(perPodUsedRow, "%.2f MB", float64(grown.used)/crowd/1e6)
	r.add(perPodGrownRow, "%.2f MB", float64(grown.kernel)/crowd/1e6)
	return nil
}

func removeFloor(dir string) error {
	roots, err := cgroupRoots(floorCgroup)
	if err != nil {
		return err
	}
	for _, root := range roots {
		err = errors.Join(err, removeCgroup(root))
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// barePod is a pod without programs: namespaces for the network, with its loopback and a veth pair up and an address, for messages
// and for names; an overlay as the root of a mount namespace; in each hierarchy a cgroup for the pod and one for its container. The
// namespaces, and what is in them, live as long as the descriptors.
type barePod struct{ namespaces []*os.File } // the network's first

func (p *barePod) close() error {
	var errs []error
	for _, ns := range p.namespaces {
		errs = append(errs, ns.Close())
	}
	return errors.Join(errs...)
}

func newBarePod(dir string, number int) (*barePod, error) {
	p := &barePod{}
	roots, err := cgroupRoots(filepath.Join(floorCgroup, strconv.Itoa(number), "container"))
	if err != nil {
		return p, err
	}
	for _, root := range roots {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return p, fmt.Errorf("make a cgroup: %w", err)
		}
	}
	for _, sub := range []string{"lower", "upper", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return p, err
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- p.fill(dir)
	}()
	if err := <-done; err != nil {
		return p, fmt.Errorf("make a bare pod: %w", err)
	}
	return p, p.connect(fmt.Sprintf("clipfloor%d", number), net.IPv4(100, 127, byte(number), 2))
}

// fill leaves the machine's namespaces for new ones and mounts the overlay.
func (p *barePod) fill(dir string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	for _, kind := range []string{"net", "ipc", "uts", "mnt"} {
		ns, err := os.Open("/proc/thread-self/ns/" + kind)
		if err != nil {
			return err
		}
		p.namespaces = append(p.namespaces, ns)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	merged := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay at %s: %w", merged, err)
	}
	if err := unix.Chdir(merged); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("make the overlay the root: %w", err)
	}
	return unix.Unmount(".", unix.MNT_DETACH)
}

// connect gives the pod its interfaces.
func (p *barePod) connect(name string, ip net.IP) error {
	fd := int(p.namespaces[0].Fd())
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumTxQueues, attrs.NumRxQueues = name, 1, 1
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := inside.LinkByName(name)
		if err == nil {
			err = inside.LinkSetUp(link)
		}
		if err == nil && name == "eth0" {
			err = inside.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}})
		}
		if err != nil {
			return fmt.Errorf("set up %s: %w", name, err)
		}
	}
	return nil
}
