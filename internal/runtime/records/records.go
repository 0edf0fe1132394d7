// Package records keeps small records on disk, one JSON file each in a folder of its own.
//
//	dir, err := records.Open[sandbox.Record](path)
//	err = dir.Save(id, record)
//	all, err := dir.Load()
//
// A record is replaced as a whole. It is not flushed to the disk: what it describes, a container's
// life, does not survive a crash of the machine either, and a record that such a crash cut short is
// reported and can be deleted. The folder of a record is the place for its other files.
package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"clipper.dev/clipper/internal/durable"
)

const fileName = "record.json"

// Dir is a folder of records.
type Dir[T any] struct {
	path string
}

// Open creates the folder if it is missing.
func Open[T any](path string) (*Dir[T], error) {
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return &Dir[T]{path: path}, nil
}

// Path is the folder of one record.
func (d *Dir[T]) Path(id string) string { return filepath.Join(d.path, id) }

// Create makes the folder of a new record.
func (d *Dir[T]) Create(id string) error {
	if err := os.Mkdir(d.Path(id), 0o711); err != nil {
		return fmt.Errorf("create record: %w", err)
	}
	return nil
}

// Save writes a record.
func (d *Dir[T]) Save(id string, record *T) error {
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode record %s: %w", id, err)
	}
	if err := durable.Replace(filepath.Join(d.Path(id), fileName), data, 0o600); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

// Remove deletes a record and everything in its folder; it succeeds when there is none.
func (d *Dir[T]) Remove(id string) error {
	if err := os.RemoveAll(d.Path(id)); err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	return nil
}

// Load reads all records. broken lists the folders without a readable one.
func (d *Dir[T]) Load() (all map[string]*T, broken []string, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, nil, fmt.Errorf("read records: %w", err)
	}
	all = make(map[string]*T, len(entries))
	for _, entry := range entries {
		record := new(T)
		data, err := os.ReadFile(filepath.Join(d.path, entry.Name(), fileName))
		if err == nil {
			err = json.Unmarshal(data, record)
		}
		if err != nil {
			if pathErr := (*os.PathError)(nil); errors.As(err, &pathErr) && !errors.Is(err, os.ErrNotExist) {
				return nil, nil, fmt.Errorf("read record: %w", err)
			}
			broken = append(broken, entry.Name())
			continue
		}
		all[entry.Name()] = record
	}
	return all, broken, nil
}
