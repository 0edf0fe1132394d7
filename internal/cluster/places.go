package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"clipper.dev/clipper/internal/durable"
	"clipper.dev/clipper/internal/kubelet/cgroups"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// places are where a node's kubelet works if that isn't in the cluster's own folders: Down has to find it.
type places struct {
	RootDir    string `json:"rootDir,omitempty"`
	PodLogsDir string `json:"podLogsDir,omitempty"`
	CgroupRoot string `json:"cgroupRoot,omitempty"`
}

func (l Layout) placesFile() string { return filepath.Join(l.DataDir, "kubelet-places.json") }

// place puts the kubelet where its options say, and remembers it. A folder that another node has is refused.
func (l *Layout) place(rootDir string, s *kubeletconfig.KubeletConfiguration) error {
	var p places
	if rootDir != "" {
		abs, err := filepath.Abs(rootDir)
		if err != nil {
			return fmt.Errorf("--root-dir: %w", err)
		}
		if err := own(abs, l.DataDir); err != nil {
			return fmt.Errorf("--root-dir: %w", err)
		}
		p.RootDir, l.RootDir = abs, abs
	}
	if s.PodLogsDir != l.PodLogDir() {
		if err := own(s.PodLogsDir, l.DataDir); err != nil {
			return fmt.Errorf("podLogsDir: %w", err)
		}
		p.PodLogsDir = s.PodLogsDir
	}
	if s.CgroupRoot != l.CgroupRoot {
		p.CgroupRoot = s.CgroupRoot
	}
	if p == (places{}) {
		if err := os.Remove(l.placesFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(l.placesFile(), data, 0o644); err != nil {
		return fmt.Errorf("remember the kubelet's places: %w", err)
	}
	return nil
}

// places returns where the kubelet worked last.
func (l Layout) places() (p places, err error) {
	data, err := os.ReadFile(l.placesFile())
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return p, fmt.Errorf("look for the kubelet's places: %w", err)
	}
	return p, nil
}

// own marks a folder as that of the node with a data directory, unless it's another's.
func own(dir, dataDir string) error {
	mark := filepath.Join(dir, ownerFile)
	have, err := os.ReadFile(mark)
	if err == nil && string(have) != dataDir+"\n" {
		return fmt.Errorf("%s belongs to the node whose data is in %s", dir, have)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return durable.WriteFile(mark, []byte(dataDir+"\n"), 0o644)
}

// leave takes away what a node has in the kernel by its kubelet's places, and with purge its folders. A folder that isn't marked as its own stays.
func (l Layout) leave(purge bool) error {
	p, err := l.places()
	if err != nil {
		return err
	}
	var errs []error
	if p.CgroupRoot != "" {
		errs = append(errs, leaveCgroups(p.CgroupRoot, l.KubeletDir()))
	}
	if purge {
		logs := cmp.Or(p.PodLogsDir, l.PodLogDir())
		errs = append(errs, removeLogLinks(l.logLinks(logs), logs))
	}
	for _, dir := range []string{p.RootDir, p.PodLogsDir} {
		if have, err := os.ReadFile(filepath.Join(dir, ownerFile)); dir == "" || err != nil || string(have) != l.DataDir+"\n" || !purge {
			continue
		}
		errs = append(errs, removeFolder(dir))
	}
	return errors.Join(errs...)
}

// leaveCgroups removes the control groups of the pods that a kubelet has in its folder: below the same root may be another's.
func leaveCgroups(root, kubeletDir string) error {
	pods, err := volumes.Pods(kubeletDir)
	if err != nil {
		return err
	}
	tree, err := cgroups.New(root)
	if err != nil {
		return err
	}
	return tree.Leave(pods)
}
