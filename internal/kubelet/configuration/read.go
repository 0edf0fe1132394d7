package configuration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

const (
	kind            = "KubeletConfiguration"
	dropInExtension = ".conf"
)

// Given is what files and flags say: fields by their names, in the form of JSON.
type Given map[string]any

// Read reads a configuration file, and merges the drop-ins of a folder into it: files whose names end in .conf, in the order of their names. Either may be
// "". A drop-in's objects and maps are merged, its lists replace, null removes.
func Read(file, dropIns string) (Given, error) {
	out := Given{}
	if file != "" {
		one, err := readFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the kubelet's configuration: %w", err)
		}
		merge(out, one)
	}
	if dropIns == "" {
		return out, nil
	}
	err := filepath.WalkDir(dropIns, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != dropInExtension {
			return err
		}
		one, err := readFile(path)
		merge(out, one)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the kubelet's configuration: %w", err)
	}
	return out, nil
}

// readFile reads one file. A field that there isn't, or that is there twice, is an error.
func readFile(path string) (map[string]any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var typed kubeletconfig.KubeletConfiguration
	if err := yaml.UnmarshalStrict(data, &typed); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if typed.Kind != kind || typed.APIVersion != kubeletconfig.SchemeGroupVersion.String() {
		return nil, fmt.Errorf("%s: it is %q of %q, not %s of %s", path, typed.Kind, typed.APIVersion, kind, kubeletconfig.SchemeGroupVersion)
	}
	var out map[string]any
	if err := yaml.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// merge applies a JSON merge patch.
func merge(to, patch map[string]any) {
	for key, value := range patch {
		object, ok := value.(map[string]any)
		switch {
		case value == nil:
			delete(to, key)
		case ok:
			sub, _ := to[key].(map[string]any)
			sub = maps.Clone(sub)
			if sub == nil {
				sub = map[string]any{}
			}
			merge(sub, object)
			to[key] = sub
		default:
			to[key] = value
		}
	}
}

// Set sets a field; a map takes the place of one that a file gave.
func (g Given) Set(field string, value any) { g[field] = value }

// has tells whether a field was given.
func (g Given) has(field string) bool {
	_, ok := g[field]
	return ok
}

// Complete returns the configuration that is in effect: what was given, else the cluster's own values, else defaults.
func (g Given) Complete(own kubeletconfig.KubeletConfiguration) (*kubeletconfig.KubeletConfiguration, error) {
	data, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("kubelet configuration: %w", err)
	}
	out := own.DeepCopy()
	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("kubelet configuration: %w", err)
	}
	out.Kind, out.APIVersion = kind, kubeletconfig.SchemeGroupVersion.String()
	setDefaults(out)
	if err := errors.Join(check(out), g.refused(out)); err != nil {
		return nil, firstLine(err)
	}
	return out, nil
}

// firstLine returns the first of several errors: one clear line tells what to mend next.
func firstLine(err error) error {
	for {
		many, ok := err.(interface{ Unwrap() []error })
		if !ok {
			return fmt.Errorf("kubelet configuration: %w", err)
		}
		err = many.Unwrap()[0]
	}
}
