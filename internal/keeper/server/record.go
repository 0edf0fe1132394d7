package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"clipper.dev/clipper/internal/durable"
	"clipper.dev/clipper/internal/keeper/wire"
)

// record is what is kept of a container on disk. It is written when the container starts and again,
// durably, when it has ended.
type record struct {
	ID        string
	Sandbox   string
	Boot      string // the machine's boot, within which PID and StartTime identify a process
	PID       int
	StartTime uint64
	StartedAt time.Time
	LogPath   string
	Terminal  bool
	// Joined are the types of the sandbox's namespaces that the container is in: a new keeper finds
	// them again through the container's process.
	Joined []string
	Exit   *wire.Exit `json:",omitempty"`
}

func (s *Server) recordPath(id string) string { return filepath.Join(s.recordDir(), id+".json") }

// writeRecord replaces the record as a whole. A record of an exit must survive a crash of the machine;
// one of a start need not, since no process survives that.
func (s *Server) writeRecord(r *record, lasting bool) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record of container %s: %w", r.ID, err)
	}
	write := durable.Replace
	if lasting {
		write = durable.WriteFile
	}
	if err := write(s.recordPath(r.ID), data, 0o600); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

func (s *Server) removeRecord(id string) error {
	if err := os.Remove(s.recordPath(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	return nil
}

// readRecords returns all records that can be read; what a crash cut short is deleted.
func (s *Server) readRecords() ([]*record, error) {
	entries, err := os.ReadDir(s.recordDir())
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	var records []*record
	for _, entry := range entries {
		path := filepath.Join(s.recordDir(), entry.Name())
		id, isRecord := strings.CutSuffix(entry.Name(), ".json")
		var r record
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &r)
		}
		if !isRecord || err != nil || r.ID != id {
			s.log.Warn("removing an unreadable record", "path", path, "error", err)
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("remove unreadable record: %w", err)
			}
			continue
		}
		records = append(records, &r)
	}
	return records, nil
}

// bootID identifies the machine's present boot.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot ID: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
