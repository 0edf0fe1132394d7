package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/durable"
)

// CNIConfig says where plugins and their configuration are.
type CNIConfig struct {
	// ConfDir has the configuration: the first of its .conflist, .conf and .json files by name. It may change at any time.
	ConfDir string
	// BinDirs are searched for plugins, in this order.
	BinDirs []string
	// StateDir is a directory for what has to be known after a restart.
	StateDir string
	Logger   *slog.Logger
}

// CNI connects pods by the plugins of a CNI configuration. It implements Pods, to versions 0.3.0 to 1.1.0 of the specification.
type CNI struct {
	cfg CNIConfig

	mu       sync.Mutex
	attached map[string]*attachment
	cidrs    []netip.Prefix
}

var _ Pods = (*CNI)(nil)

// attachment is what is kept of a sandbox: DEL gets the configuration and the result of ADD, whatever the
// configuration directory says by then.
type attachment struct {
	SandboxID string
	Config    *cniList
	Args      string
	Runtime   cniRuntime
	Result    json.RawMessage
	Addresses []netip.Addr
}

// NewCNI reads what an earlier process kept. There need not be a configuration yet: Ready tells.
func NewCNI(cfg CNIConfig) (*CNI, error) {
	if cfg.ConfDir == "" || len(cfg.BinDirs) == 0 || cfg.StateDir == "" {
		return nil, errors.New("CNI configuration lacks a configuration directory, a directory of plugins or a state directory")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &CNI{cfg: cfg, attached: make(map[string]*attachment)}
	if err := os.MkdirAll(c.dir(), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of CNI attachments: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(c.dir(), "*"+leaseSuffix))
	if err != nil {
		return nil, fmt.Errorf("list CNI attachments: %w", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read CNI attachment: %w", err)
		}
		var a attachment
		if err := json.Unmarshal(data, &a); err != nil {
			return nil, fmt.Errorf("read CNI attachment %s: %w", path, err)
		}
		c.attached[a.SandboxID] = &a
	}
	return c, nil
}

func (c *CNI) dir() string { return filepath.Join(c.cfg.StateDir, "cni") }

// Ready implements Pods. The words are those that kubelets' users know.
func (c *CNI) Ready() error {
	list, err := readCNIList(c.cfg.ConfDir)
	if err != nil {
		return fmt.Errorf("cni plugin not initialized: %w", err)
	}
	for i := range list.Plugins {
		if _, err := c.find(list.Plugins[i].kind()); err != nil {
			return fmt.Errorf("cni plugin not initialized: %w", err)
		}
	}
	if !list.atLeast(1, 1) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cniTimeout)
	defer cancel()
	for i := range list.Plugins {
		if _, err := c.run(ctx, "STATUS", list, list.Plugins[i], &attachment{Config: list}, "", nil); err != nil {
			return fmt.Errorf("cni plugin not ready: %w", err)
		}
	}
	return nil
}

// SetPodCIDRs implements Pods. Plugins that can (capability ipRanges) are told with the next pod.
func (c *CNI) SetPodCIDRs(_ context.Context, cidrs []netip.Prefix) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cidrs = slices.Clone(cidrs)
	return nil
}

// Addresses implements Pods.
func (c *CNI) Addresses(sandboxID string) ([]netip.Addr, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.attached[sandboxID]
	if a == nil || len(a.Addresses) == 0 {
		return nil, false
	}
	return slices.Clone(a.Addresses), true
}

// Attach implements Pods.
func (c *CNI) Attach(ctx context.Context, pod Sandbox) ([]netip.Addr, error) {
	if err := validSandboxID(pod.ID); err != nil {
		return nil, err
	}
	if pod.NetNS == nil {
		return nil, fmt.Errorf("sandbox %s has no network namespace", pod.ID)
	}
	if err := c.Detach(ctx, pod.ID); err != nil {
		return nil, fmt.Errorf("undo an earlier attempt: %w", err)
	}
	list, err := readCNIList(c.cfg.ConfDir)
	if err != nil {
		return nil, err
	}
	if err := loopbackUp(pod.NetNS); err != nil {
		return nil, err
	}
	c.mu.Lock()
	a := &attachment{SandboxID: pod.ID, Config: list, Args: cniArgs(pod), Runtime: newCNIRuntime(pod, c.cidrs)}
	c.mu.Unlock()
	// It's known before the first plugin runs, so that a crash in between leaves nothing that nobody takes back.
	if err := c.keep(a); err != nil {
		return nil, err
	}
	if err := c.add(ctx, a, pod.NetNS); err != nil {
		err = fmt.Errorf("connect pod %s/%s: %w", pod.Namespace, pod.Name, err)
		return nil, errors.Join(err, c.Detach(context.WithoutCancel(ctx), pod.ID))
	}
	return slices.Clone(a.Addresses), c.keep(a)
}

func (c *CNI) add(ctx context.Context, a *attachment, ns *os.File) error {
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	for _, plugin := range a.Config.Plugins {
		result, err := c.run(ctx, "ADD", a.Config, plugin, a, path, a.Result)
		if err != nil {
			return err
		}
		a.Result = result
	}
	var err error
	a.Addresses, err = cniAddresses(a.Result)
	return err
}

// Detach implements Pods. The plugins run in reverse order; one that fails keeps the attachment for another attempt.
func (c *CNI) Detach(ctx context.Context, sandboxID string) error {
	if err := validSandboxID(sandboxID); err != nil {
		return err
	}
	c.mu.Lock()
	a := c.attached[sandboxID]
	c.mu.Unlock()
	if a == nil {
		return nil
	}
	for _, plugin := range slices.Backward(a.Config.Plugins) {
		if _, err := c.run(ctx, "DEL", a.Config, plugin, a, "", a.Result); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.attached, sandboxID)
	return leaseDir(c.dir()).remove(sandboxID)
}

func (c *CNI) keep(a *attachment) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode the CNI attachment of %s: %w", a.SandboxID, err)
	}
	if err := durable.Replace(leaseDir(c.dir()).path(a.SandboxID), data, 0o600); err != nil {
		return err
	}
	kept := *a
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attached[a.SandboxID] = &kept
	return nil
}

func loopbackUp(ns *os.File) error {
	nl, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the pod's namespace: %w", err)
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the pod's loopback interface: %w", err)
	}
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the pod's loopback interface up: %w", err)
	}
	return nil
}
