package cpu

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"clipper.dev/clipper/internal/kubelet/resources/checkpoint"
)

// stateFile is what upstream's kubelet calls the file.
const stateFile = "cpu_manager_state"

// document is the file's contents.
type document struct {
	PolicyName    string                       `json:"policyName"`
	DefaultCPUSet string                       `json:"defaultCpuSet"`
	Entries       map[string]map[string]string `json:"entries,omitempty"`
	Checksum      checkpoint.Checksum          `json:"checksum"`
}

func (d document) sum() checkpoint.Checksum {
	d.Checksum = 0
	if d.Entries == nil {
		d.Entries = map[string]map[string]string{}
	}
	return checkpoint.Sum(&d, "cpu.document", "state.CPUManagerCheckpoint")
}

// state is who has which CPUs. It isn't safe for concurrent use.
type state struct {
	path, policy string
	// shared is the default set: what containers run on that have no CPUs of their own.
	shared cpuset.CPUSet
	own    map[types.UID]map[string]cpuset.CPUSet
}

// openState reads the state, or begins one.
func openState(dir, policy string) (*state, error) {
	s := &state{path: filepath.Join(dir, stateFile), policy: policy, own: map[types.UID]map[string]cpuset.CPUSet{}}
	err := s.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = s.save()
	}
	if err != nil {
		return nil, fmt.Errorf("could not restore state from checkpoint: %w, please drain this node and delete the CPU manager checkpoint file %q before restarting Kubelet", err, s.path)
	}
	return s, nil
}

func (s *state) load() error {
	var d document
	if err := checkpoint.Load(s.path, &d); err != nil {
		return err
	}
	if d.Checksum != 0 { // one that was written by hand
		if err := checkpoint.Verify(d.Checksum, d.sum()); err != nil {
			return err
		}
	}
	if d.PolicyName != s.policy {
		return fmt.Errorf("configured policy %q differs from state checkpoint policy %q", s.policy, d.PolicyName)
	}
	var err error
	if s.shared, err = cpuset.Parse(d.DefaultCPUSet); err != nil {
		return fmt.Errorf("could not parse default cpu set %q: %w", d.DefaultCPUSet, err)
	}
	for uid, containers := range d.Entries {
		for name, text := range containers {
			set, err := cpuset.Parse(text)
			if err != nil {
				return fmt.Errorf("could not parse cpuset %q for container %q in pod %q: %w", text, name, uid, err)
			}
			s.set(types.UID(uid), name, set)
		}
	}
	return nil
}

func (s *state) save() error {
	d := document{PolicyName: s.policy, DefaultCPUSet: s.shared.String(), Entries: map[string]map[string]string{}}
	for uid, containers := range s.own {
		d.Entries[string(uid)] = map[string]string{}
		for name, set := range containers {
			d.Entries[string(uid)][name] = set.String()
		}
	}
	d.Checksum = d.sum()
	return checkpoint.Save(s.path, &d)
}

func (s *state) set(uid types.UID, container string, set cpuset.CPUSet) {
	if s.own[uid] == nil {
		s.own[uid] = map[string]cpuset.CPUSet{}
	}
	s.own[uid][container] = set
}

// ofPod returns all that a pod's containers have.
func (s *state) ofPod(uid types.UID) cpuset.CPUSet {
	var all cpuset.CPUSet
	for _, set := range s.own[uid] {
		all = all.Union(set)
	}
	return all
}

// exclusive returns all CPUs that aren't shared.
func (s *state) exclusive() cpuset.CPUSet {
	var all cpuset.CPUSet
	for uid := range maps.Keys(s.own) {
		all = all.Union(s.ofPod(uid))
	}
	return all
}

// release gives a container's CPUs back, but for those that others of the pod have too: they were taken over from an init container.
func (s *state) release(uid types.UID, container string) {
	set := s.own[uid][container]
	delete(s.own[uid], container)
	s.shared = s.shared.Union(set.Difference(s.ofPod(uid)))
	if len(s.own[uid]) == 0 {
		delete(s.own, uid)
	}
}
