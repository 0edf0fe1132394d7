package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"clipper.dev/clipper/internal/durable"
)

// lease is what Attach made for a sandbox. Its file is written before anything is made and removed after
// everything is gone, so a crash in between leaves nothing that nobody knows of.
//
// A power failure may lose the file, but it ends the sandbox too: so the files are renamed into place and not synced.
type lease struct {
	SandboxID string
	Namespace string
	Name      string
	UID       string
	Link      string // the veth's end on the node
	Addresses []netip.Addr
	HostPorts []HostPort `json:",omitempty"`
	// Releasing says that Detach was called and the interface's removal is under way.
	Releasing bool `json:",omitempty"`
}

// leaseDir keeps one file for each lease.
type leaseDir string

const leaseSuffix = ".json"

func (d leaseDir) load() (map[string]*lease, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("make lease directory: %w", err)
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	leases := make(map[string]*lease)
	for _, e := range entries {
		path := filepath.Join(string(d), e.Name())
		if !strings.HasSuffix(e.Name(), leaseSuffix) {
			_ = os.Remove(path) // a write that a crash interrupted
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read lease: %w", err)
		}
		var l lease
		if json.Unmarshal(data, &l) != nil {
			_ = os.Remove(path) // cut short by the machine's failure, which ended the sandbox too
			continue
		}
		leases[l.SandboxID] = &l
	}
	return leases, nil
}

func (d leaseDir) save(l *lease) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode lease of %s: %w", l.SandboxID, err)
	}
	return durable.Replace(d.path(l.SandboxID), data, 0o600)
}

func (d leaseDir) remove(sandboxID string) error {
	if err := os.Remove(d.path(sandboxID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove lease of %s: %w", sandboxID, err)
	}
	return nil
}

func (d leaseDir) path(sandboxID string) string {
	return filepath.Join(string(d), sandboxID+leaseSuffix)
}

// validSandboxID refuses what can't be a file name.
func validSandboxID(id string) error {
	if id == "" || len(id) > 200 || strings.ContainsAny(id, "/\x00") || strings.HasPrefix(id, ".") {
		return fmt.Errorf("invalid sandbox ID %q", id)
	}
	return nil
}
