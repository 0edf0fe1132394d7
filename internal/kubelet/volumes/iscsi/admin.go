package iscsi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// What iscsiadm's exit codes mean (iscsi_err.h of open-iscsi).
const (
	noSession     = 2
	sessionExists = 15
	nothingFound  = 21
)

// The keys of a Secret for CHAP, which are iscsiadm's names too.
var (
	discoveryKeys = chapKeys("discovery.sendtargets.auth.")
	sessionKeys   = chapKeys("node.session.auth.")
)

func chapKeys(prefix string) []string {
	return []string{prefix + "username", prefix + "password", prefix + "username_in", prefix + "password_in"}
}

// iscsiadm runs the node's tool and returns what it printed.
func iscsiadm(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "iscsiadm", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		// What sets a value may set a password, which stays out of the message.
		if i := slices.Index(args, "-v"); i >= 0 {
			args = args[:i]
		}
		return "", fmt.Errorf("iscsiadm %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// exited tells whether an error is that of a tool that ended with one of the codes.
func exited(err error, codes ...int) bool {
	var e *exec.ExitError
	return errors.As(err, &e) && slices.Contains(codes, e.ExitCode())
}

// login makes a session to a target by a portal, with what it is to prove by CHAP.
func (p *Plugin) login(ctx context.Context, d *disk, portal string, a *access, chap map[string]string) error {
	discovery := []string{"-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-I", d.Interface}
	node := []string{"-m", "node", "-p", portal, "-T", d.Target, "-I", d.Interface}
	if _, err := p.admin(ctx, append(discovery, "-o", "new")...); err != nil {
		return err
	}
	if a.discovery {
		if err := p.prove(ctx, discovery, "discovery.sendtargets.auth.", discoveryKeys, chap); err != nil {
			return err
		}
	}
	if _, err := p.admin(ctx, append(discovery, "--discover")...); err != nil {
		_, undo := p.admin(ctx, append(discovery, "-o", "delete")...)
		return errors.Join(err, undo)
	}
	// Units are scanned for one by one, and a session is not to be made at the machine's start. Old versions don't know the first setting.
	if err := p.set(ctx, node, "node.session.scan", "manual"); err != nil {
		p.cfg.Logger.Warn("a session finds units that no pod has asked for", "target", d.Target, "error", err)
	}
	if a.session {
		if err := p.prove(ctx, node, "node.session.auth.", sessionKeys, chap); err != nil {
			return err
		}
	}
	if _, err := p.admin(ctx, append(node, "--login")...); err != nil && !exited(err, sessionExists) {
		_, undo := p.admin(ctx, append(node, "-o", "delete")...)
		return errors.Join(err, undo)
	}
	return p.set(ctx, node, "node.startup", "manual")
}

// prove gives a record its names and passwords.
func (p *Plugin) prove(ctx context.Context, record []string, prefix string, keys []string, chap map[string]string) error {
	if err := p.set(ctx, record, prefix+"authmethod", "CHAP"); err != nil {
		return err
	}
	for _, key := range keys {
		if chap[key] == "" {
			continue
		}
		if err := p.set(ctx, record, key, chap[key]); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plugin) set(ctx context.Context, record []string, name, value string) error {
	_, err := p.admin(ctx, slices.Concat(record, []string{"-o", "update", "-n", name, "-v", value})...)
	return err
}

// logout ends the session to a target by a portal. Absence is success.
func (p *Plugin) logout(ctx context.Context, d *disk, portal string) error {
	node := []string{"-m", "node", "-p", portal, "-T", d.Target, "-I", d.Interface}
	for _, action := range [][]string{{"--logout"}, {"-o", "delete"}} {
		if _, err := p.admin(ctx, slices.Concat(node, action)...); err != nil && !exited(err, noSession, nothingFound) {
			return err
		}
	}
	return nil
}

// makeInterface makes the interface of an initiator of another name, with all else that its template says.
func (p *Plugin) makeInterface(ctx context.Context, d *disk) error {
	shown, err := p.admin(ctx, "-m", "iface", "-I", d.Template, "-o", "show")
	if err != nil {
		return err
	}
	record := []string{"-m", "iface", "-I", d.Interface}
	if _, err := p.admin(ctx, append(record, "-o", "new")...); err != nil {
		if exited(err, sessionExists) {
			return nil
		}
		return err
	}
	for line := range strings.Lines(shown) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok || !strings.HasPrefix(name, "iface.") || value == "<empty>" || name == "iface.iscsi_ifacename" || name == "iface.initiatorname" {
			continue
		}
		if err := p.set(ctx, record, name, value); err != nil {
			return err
		}
	}
	return p.set(ctx, record, "iface.initiatorname", d.Initiator)
}

// removeInterface undoes makeInterface. Absence is success.
func (p *Plugin) removeInterface(ctx context.Context, d *disk) error {
	if d.Template == "" {
		return nil
	}
	if _, err := p.admin(ctx, "-m", "iface", "-I", d.Interface, "-o", "delete"); err != nil && !exited(err, noSession, nothingFound) {
		return err
	}
	return nil
}
