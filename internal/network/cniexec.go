package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cniTimeout is how long a plugin may take when nobody else set a limit.
const cniTimeout = 30 * time.Second

// cniError is what a plugin answers when it fails.
type cniError struct {
	Code    int    `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details"`
}

func (e *cniError) Error() string {
	if e.Details == "" {
		return e.Msg
	}
	return e.Msg + "; " + e.Details
}

// find returns the plugin's program.
func (c *CNI) find(kind string) (string, error) {
	for _, dir := range c.cfg.BinDirs {
		path := filepath.Join(dir, kind)
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look for plugin %q: %w", kind, err)
		}
	}
	return "", fmt.Errorf("failed to find plugin %q in path %v", kind, c.cfg.BinDirs)
}

// run executes one plugin for one operation and returns what it answers.
func (c *CNI) run(ctx context.Context, command string, list *cniList, plugin cniPlugin, a *attachment, netns string, previous json.RawMessage) (json.RawMessage, error) {
	path, err := c.find(plugin.kind())
	if err != nil {
		return nil, err
	}
	input, err := cniInput(list, plugin, a.Runtime, previous)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*cniTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_PATH="+strings.Join(c.cfg.BinDirs, string(filepath.ListSeparator)))
	if command != "STATUS" {
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+a.SandboxID, "CNI_NETNS="+netns, "CNI_IFNAME="+podInterface, "CNI_ARGS="+a.Args)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		var failure cniError
		if json.Unmarshal(stdout.Bytes(), &failure) == nil && failure.Msg != "" {
			return nil, fmt.Errorf("plugin type=%q name=%q failed (%s): %w", plugin.kind(), list.Name, strings.ToLower(command), &failure)
		}
		return nil, fmt.Errorf("plugin type=%q name=%q failed (%s): %w: %s", plugin.kind(), list.Name, strings.ToLower(command), err, bytes.TrimSpace(stderr.Bytes()))
	}
	if command != "ADD" {
		return nil, nil
	}
	if !json.Valid(stdout.Bytes()) {
		return nil, fmt.Errorf("plugin type=%q name=%q answered no JSON: %.200q", plugin.kind(), list.Name, stdout.Bytes())
	}
	return stdout.Bytes(), nil
}

// cniInput is a plugin's configuration as it's executed.
func cniInput(list *cniList, plugin cniPlugin, runtime cniRuntime, previous json.RawMessage) ([]byte, error) {
	input := make(map[string]any, len(plugin)+4)
	for key, value := range plugin {
		if key != "capabilities" {
			input[key] = value
		}
	}
	input["name"], input["cniVersion"] = list.Name, list.CNIVersion
	if args := runtime.forPlugin(plugin); len(args) > 0 {
		input["runtimeConfig"] = args
	}
	if len(previous) > 0 {
		input["prevResult"] = previous
	}
	data, err := json.Marshal(input)
	if err != nil {
		return nil, fmt.Errorf("encode the configuration of plugin %q: %w", plugin.kind(), err)
	}
	return data, nil
}

// cniAddresses reads the pod's addresses from the last plugin's result.
func cniAddresses(result json.RawMessage) ([]netip.Addr, error) {
	var r struct {
		Interfaces []struct {
			Name    string `json:"name"`
			Sandbox string `json:"sandbox"`
		} `json:"interfaces"`
		IPs []struct {
			Interface *int   `json:"interface"`
			Address   string `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return nil, fmt.Errorf("read the plugins' result: %w", err)
	}
	var addrs []netip.Addr
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) {
			// Addresses on the node's side, or of further interfaces, aren't the pod's.
			if on := r.Interfaces[*i]; on.Sandbox == "" || on.Name != podInterface {
				continue
			}
		}
		p, err := netip.ParsePrefix(ip.Address)
		if err != nil {
			return nil, fmt.Errorf("read the plugins' result: %w", err)
		}
		addrs = append(addrs, p.Addr())
	}
	if len(addrs) == 0 {
		return nil, errors.New("the plugins' result has no address for the pod")
	}
	return addrs, nil
}
