package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// Dirs are where files are looked for: those that are there for good, and those of this boot, which count more.
var Dirs = []string{"/etc/cdi", "/var/run/cdi"}

// file is one description.
type file struct {
	Version        string   `json:"cdiVersion"`
	Kind           string   `json:"kind"`
	Devices        []device `json:"devices"`
	ContainerEdits edits    `json:"containerEdits"`
}

type device struct {
	Name           string `json:"name"`
	ContainerEdits edits  `json:"containerEdits"`
}

// described are the devices by full name. Two of one name in one folder are none.
type described map[string]source

type source struct {
	file     *file
	device   *device
	priority int
}

func (d described) find(name string) (*file, *device) {
	s := d[name]
	return s.file, s.device
}

// read reads all files. One that can't be read is no reason to keep a container from devices that others describe.
func read(dirs []string) (described, error) {
	out := described{}
	for priority, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read CDI specifications: %w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext != ".json" && ext != ".yaml" || e.IsDir() {
				continue
			}
			if f := readFile(filepath.Join(dir, e.Name())); f != nil {
				out.add(f, priority)
			}
		}
	}
	return out, nil
}

// readFile returns nil for what isn't a description.
func readFile(path string) *file {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var f file
	if err := yaml.Unmarshal(raw, &f); err != nil || !strings.Contains(f.Kind, "/") {
		return nil
	}
	return &f
}

func (d described) add(f *file, priority int) {
	for i := range f.Devices {
		name := f.Kind + "=" + f.Devices[i].Name
		if have, ok := d[name]; ok && have.priority == priority {
			d[name] = source{priority: priority}
			continue
		}
		d[name] = source{f, &f.Devices[i], priority}
	}
}
