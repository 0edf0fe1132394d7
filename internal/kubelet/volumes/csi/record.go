package csi

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/durable"
)

const (
	recordFile = "vol_data.json"
	mountName  = "mount"
	stageName  = "globalmount"
	yes        = "true"
)

// record is what is kept on disk of a publication or of a volume in use.
type record struct {
	SpecName     string `json:"specVolID,omitempty"`
	Handle       string `json:"volumeHandle"`
	Driver       string `json:"driverName"`
	Node         string `json:"nodeName,omitempty"`
	Mode         string `json:"volumeLifecycleMode,omitempty"`
	AttachmentID string `json:"attachmentID,omitempty"`
	Attachable   string `json:"attachable,omitempty"` // "true": the control plane must know that it's in use
	Staged       string `json:"staged,omitempty"`     // "true": it may be staged
}

func (r record) name() corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + r.Driver + "^" + r.Handle)
}

func readRecord(dir string) (record, error) {
	var r record
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, fmt.Errorf("read the volume's record: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read the volume's record in %s: %w", dir, err)
	}
	return r, nil
}

// write makes the record last.
func (r record) write(dir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(filepath.Join(dir, recordFile)); err == nil && slices.Equal(have, data) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the volume's directory: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, recordFile), data, 0o600); err != nil {
		return fmt.Errorf("write the volume's record: %w", err)
	}
	return nil
}

// removeRecord removes a record and its directory, in which nothing else may be left.
func removeRecord(dir string) error {
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the volume's record: %w", err)
	}
	return removeDir(dir)
}

func removeDir(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the volume's directory: %w", err)
	}
	return nil
}

// usedDir is where the record of a volume in use is.
func (p *Plugin) usedDir(driver, handle string) string {
	return filepath.Join(p.cfg.Root, "plugins", "kubernetes.io", "csi", driver, fmt.Sprintf("%x", sha256.Sum256([]byte(handle))))
}

// used lists the volumes in use with their directories.
func (p *Plugin) used() (map[string]record, error) {
	dirs, err := filepath.Glob(filepath.Join(p.cfg.Root, "plugins", "kubernetes.io", "csi", "*", "*", recordFile))
	return records(dirs), err
}

// published lists the publications with their directories.
func (p *Plugin) published() (map[string]record, error) {
	dirs, err := filepath.Glob(filepath.Join(p.cfg.Root, "pods", "*", "volumes", "kubernetes.io~csi", "*", recordFile))
	return records(dirs), err
}

func records(files []string) map[string]record {
	out := map[string]record{}
	for _, f := range files {
		if r, err := readRecord(filepath.Dir(f)); err == nil {
			out[filepath.Dir(f)] = r
		}
	}
	return out
}
