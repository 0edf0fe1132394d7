package iscsi

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/durable"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

const (
	recordFile = "disk.json"
	stageName  = "globalmount"
	anyPort    = "3260"
	dirMode    = 0o750
)

// disk is a logical unit and how it is reached. Its record is what stays on the node while it is in use.
type disk struct {
	Target    string   `json:"iqn"`
	Unit      int32    `json:"lun"`
	Portals   []string `json:"portals"`
	Interface string   `json:"iface"`
	// Template is the interface that Interface was made from, for an initiator of another name; empty if it was not made.
	Template  string `json:"initIface,omitempty"`
	Initiator string `json:"initiatorName,omitempty"`
	// Users are the directories of the pods' volumes that the unit is behind.
	Users []string `json:"users"`
}

// access is what a volume says beyond the unit itself.
type access struct {
	fsType             string
	readOnly, block    bool
	options            []string
	discovery, session bool // CHAP
	secret             *corev1.SecretReference
}

// describe tells the unit that a volume names, inline or by a persistent volume.
func describe(r *volumes.Request) (*disk, *access) {
	var d disk
	var a access
	var portal string
	var portals []string
	var initiator *string
	if r.PV != nil {
		s := r.PV.Spec.ISCSI
		d = disk{Target: s.IQN, Unit: s.Lun, Interface: s.ISCSIInterface}
		portal, portals, initiator = s.TargetPortal, s.Portals, s.InitiatorName
		a = access{fsType: s.FSType, readOnly: s.ReadOnly || r.ReadOnly, options: r.PV.Spec.MountOptions, discovery: s.DiscoveryCHAPAuth, session: s.SessionCHAPAuth, secret: s.SecretRef}
		a.block = r.PV.Spec.VolumeMode != nil && *r.PV.Spec.VolumeMode == corev1.PersistentVolumeBlock
	} else {
		s := r.Volume.ISCSI
		d = disk{Target: s.IQN, Unit: s.Lun, Interface: s.ISCSIInterface}
		portal, portals, initiator = s.TargetPortal, s.Portals, s.InitiatorName
		a = access{fsType: s.FSType, readOnly: s.ReadOnly, discovery: s.DiscoveryCHAPAuth, session: s.SessionCHAPAuth}
		if s.SecretRef != nil {
			a.secret = &corev1.SecretReference{Namespace: r.Pod.Namespace, Name: s.SecretRef.Name}
		}
	}
	for _, p := range append([]string{portal}, portals...) {
		if p = withPort(p); !slices.Contains(d.Portals, p) {
			d.Portals = append(d.Portals, p)
		}
	}
	if initiator != nil {
		d.Initiator, d.Template = *initiator, d.Interface
		d.Interface = d.Portals[0] + ":" + filepath.Base(r.Dir)
	}
	return &d, &a
}

// withPort completes a portal that is an address alone.
func withPort(portal string) string {
	if _, _, err := net.SplitHostPort(portal); err == nil {
		return portal
	}
	return net.JoinHostPort(strings.Trim(portal, "[]"), anyPort)
}

// dir is where a unit's record is, and its file system is mounted.
func (p *Plugin) dir(d *disk) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s:%s:%d", d.Interface, d.Target, d.Unit))
	return filepath.Join(p.cfg.Root, "plugins", pluginName, fmt.Sprintf("%x", sum))
}

// addUser writes down that a unit is behind a pod's volume.
func (p *Plugin) addUser(d *disk, user string) error {
	if have, err := readDisk(p.dir(d)); err == nil {
		d.Users = have.Users
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if slices.Contains(d.Users, user) {
		return nil
	}
	d.Users = append(d.Users, user)
	return p.write(d)
}

// inUse lists the units that have a record.
func (p *Plugin) inUse() ([]*disk, error) {
	found, err := filepath.Glob(filepath.Join(p.cfg.Root, "plugins", pluginName, "*", recordFile))
	if err != nil {
		return nil, err
	}
	var out []*disk
	for _, f := range found {
		d, err := readDisk(filepath.Dir(f))
		if errors.Is(err, os.ErrNotExist) {
			continue // given back meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// usedBy returns the unit behind a pod's volume; nil if there is none.
func (p *Plugin) usedBy(user string) (*disk, error) {
	all, err := p.inUse()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(all, func(d *disk) bool { return slices.Contains(d.Users, user) }); i >= 0 {
		return all[i], nil
	}
	return nil, nil
}

func readDisk(dir string) (*disk, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, fmt.Errorf("read an iSCSI volume's record: %w", err)
	}
	var d disk
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("read an iSCSI volume's record in %s: %w", dir, err)
	}
	return &d, nil
}

// write makes the record last.
func (p *Plugin) write(d *disk) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	dir := p.dir(d)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("make an iSCSI volume's directory: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, recordFile), data, 0o600); err != nil {
		return fmt.Errorf("write an iSCSI volume's record: %w", err)
	}
	return nil
}
