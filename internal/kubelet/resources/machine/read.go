package machine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/cpuset"
)

// Read reads the layout below a /sys tree.
func Read(sys string) (*Topology, error) {
	cpus := filepath.Join(sys, "devices/system/cpu")
	online, err := readSet(filepath.Join(cpus, "online"))
	if err != nil {
		return nil, fmt.Errorf("find the CPUs that are online: %w", err)
	}
	t := &Topology{CPUs: map[int]CPU{}}
	if err := t.readNodes(filepath.Join(sys, "devices/system/node"), online); err != nil {
		return nil, err
	}
	if len(t.Nodes) == 0 { // a kernel without NUMA
		t.Nodes = []Node{{Distances: []uint64{10}}}
		for _, id := range online.List() {
			t.CPUs[id] = CPU{ID: id}
		}
	}
	for _, id := range online.List() {
		cpu, placed := t.CPUs[id]
		if !placed {
			continue
		}
		dir := filepath.Join(cpus, "cpu"+strconv.Itoa(id))
		if cpu.Socket, err = readInt(filepath.Join(dir, "topology/physical_package_id")); err != nil {
			return nil, fmt.Errorf("find the socket of CPU %d: %w", id, err)
		}
		threads, err := siblings(dir)
		if err != nil {
			return nil, fmt.Errorf("find the core of CPU %d: %w", id, err)
		}
		cpu.Core = threads.Intersection(online).List()[0]
		t.CPUs[id] = cpu
	}
	return t, t.readCaches(cpus)
}

// readNodes reads the NUMA nodes and which CPUs are in each.
func (t *Topology) readNodes(dir string, online cpuset.CPUSet) error {
	dirs, err := filepath.Glob(filepath.Join(dir, "node[0-9]*"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		id, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(d), "node"))
		if err != nil {
			continue
		}
		node := Node{ID: id}
		if node.Memory, err = readMemory(filepath.Join(d, "meminfo")); err != nil {
			return fmt.Errorf("read the memory of NUMA node %d: %w", id, err)
		}
		if node.HugePages, err = readHugePages(filepath.Join(d, "hugepages")); err != nil {
			return fmt.Errorf("read the huge pages of NUMA node %d: %w", id, err)
		}
		if node.Distances, err = readDistances(filepath.Join(d, "distance")); err != nil {
			return fmt.Errorf("read the distances of NUMA node %d: %w", id, err)
		}
		list, err := readSet(filepath.Join(d, "cpulist"))
		if err != nil {
			return fmt.Errorf("find the CPUs of NUMA node %d: %w", id, err)
		}
		for _, cpu := range list.Intersection(online).List() {
			t.CPUs[cpu] = CPU{ID: cpu, NUMA: id}
		}
		t.Nodes = append(t.Nodes, node)
	}
	slices.SortFunc(t.Nodes, func(a, b Node) int { return a.ID - b.ID })
	return nil
}

// readCaches finds for each CPU the cache beyond the second level that only a part of its node's cores share.
func (t *Topology) readCaches(cpus string) error {
	for id, cpu := range t.CPUs {
		cpu.Uncore = cpu.Socket
		inNode := t.In(NUMA, cpu.NUMA).Size()
		dirs, err := filepath.Glob(filepath.Join(cpus, "cpu"+strconv.Itoa(id), "cache/index[0-9]*"))
		if err != nil {
			return err
		}
		for _, d := range dirs {
			level, err := readInt(filepath.Join(d, "level"))
			if err != nil || level <= 2 {
				continue
			}
			shared, err := readSet(filepath.Join(d, "shared_cpu_list"))
			if err != nil || shared.Size() == inNode {
				continue
			}
			if cpu.Uncore, err = readInt(filepath.Join(d, "id")); err != nil {
				cpu.Uncore = shared.List()[0] // a kernel that doesn't number caches
			}
			break
		}
		t.CPUs[id] = cpu
	}
	return nil
}

// siblings returns the threads of a CPU's core.
func siblings(dir string) (cpuset.CPUSet, error) {
	for _, name := range []string{"core_cpus_list", "thread_siblings_list"} {
		set, err := readSet(filepath.Join(dir, "topology", name))
		if !errors.Is(err, fs.ErrNotExist) {
			return set, err
		}
	}
	return cpuset.CPUSet{}, fs.ErrNotExist
}

func readText(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

func readInt(path string) (int, error) {
	text, err := readText(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

func readSet(path string) (cpuset.CPUSet, error) {
	text, err := readText(path)
	if err != nil {
		return cpuset.CPUSet{}, err
	}
	return cpuset.Parse(text)
}

// readMemory reads the line "Node 0 MemTotal: 16 kB".
func readMemory(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 4 && fields[2] == "MemTotal:" {
			kb, err := strconv.ParseUint(fields[3], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no total is told")
}

func readHugePages(dir string) ([]HugePages, error) {
	dirs, err := filepath.Glob(filepath.Join(dir, "hugepages-*kB"))
	if err != nil {
		return nil, err
	}
	var out []HugePages
	for _, d := range dirs {
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(d), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		count, err := readInt(filepath.Join(d, "nr_hugepages"))
		if err != nil {
			return nil, err
		}
		out = append(out, HugePages{Size: kb << 10, Count: uint64(count)})
	}
	return out, nil
}

func readDistances(path string) ([]uint64, error) {
	text, err := readText(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, field := range strings.Fields(text) {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}
