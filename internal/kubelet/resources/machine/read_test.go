package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// tree writes files below a folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	cpuDir  = "devices/system/cpu"
	nodeDir = "devices/system/node"
)

// thread adds a CPU: its socket, the threads of its core, and the CPUs that share its third-level cache, of a number if that's not negative.
func thread(files map[string]string, id, socket int, core, shared string, cache int) {
	dir := fmt.Sprintf("%s/cpu%d", cpuDir, id)
	files[dir+"/topology/physical_package_id"] = fmt.Sprint(socket)
	files[dir+"/topology/core_cpus_list"] = core
	files[dir+"/cache/index0/level"], files[dir+"/cache/index0/shared_cpu_list"], files[dir+"/cache/index0/id"] = "1", core, fmt.Sprint(id)
	files[dir+"/cache/index3/level"], files[dir+"/cache/index3/shared_cpu_list"] = "3", shared
	if cache >= 0 {
		files[dir+"/cache/index3/id"] = fmt.Sprint(cache)
	}
}

func node(files map[string]string, id int, cpus, distance string, kb int) {
	dir := fmt.Sprintf("%s/node%d", nodeDir, id)
	files[dir+"/cpulist"], files[dir+"/distance"] = cpus, distance
	files[dir+"/meminfo"] = fmt.Sprintf("Node %d MemTotal:       %d kB\nNode %[1]d MemFree:        1 kB", id, kb)
	files[dir+"/hugepages/hugepages-2048kB/nr_hugepages"] = "4"
}

func TestTwoSocketsWithTwoNodesEach(t *testing.T) {
	files := map[string]string{cpuDir + "/online": "0-15"}
	for id := range 16 { // threads of a core are eight apart; two cores a node, which share a cache
		core := id % 8
		first := core / 2 * 2
		thread(files, id, core/4, fmt.Sprintf("%d,%d", core, core+8), fmt.Sprintf("%d-%d,%d-%d", first, first+1, first+8, first+9), core/2)
	}
	for n := range 4 {
		node(files, n, fmt.Sprintf("%d-%d,%d-%d", 2*n, 2*n+1, 2*n+8, 2*n+9), "10 12 20 22", 1024)
	}
	topo, err := Read(tree(t, files))
	if err != nil {
		t.Fatal(err)
	}
	for level, want := range map[string][2]int{"sockets": {topo.Count(Socket), 2}, "nodes": {topo.Count(NUMA), 4}, "cores": {topo.Count(Core), 8}, "threads per core": {topo.Per(Core), 2}} {
		if want[0] != want[1] {
			t.Errorf("%s: %d, not %d", level, want[0], want[1])
		}
	}
	if got := topo.CPUs[13]; got != (CPU{ID: 13, Core: 5, Socket: 1, NUMA: 2, Uncore: 1}) { // a cache of the whole node is no boundary: the socket counts
		t.Errorf("CPU 13 is %+v", got)
	}
	if n := topo.Nodes[2]; n.Memory != 1<<20 || n.HugePages[0] != (HugePages{2 << 20, 4}) || n.Distances[3] != 22 {
		t.Errorf("node 2 is %+v", n)
	}
	if got := topo.In(NUMA, 1, 3).String(); got != "2-3,6-7,10-11,14-15" {
		t.Errorf("in nodes 1 and 3: %s", got)
	}
}

func TestCachesDivideANode(t *testing.T) {
	for name, numbered := range map[string]int{"numbered": 1, "not numbered": -1} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{cpuDir + "/online": "0-7"}
			for id := range 8 {
				first := id / 4 * 4
				thread(files, id, 0, fmt.Sprint(id), fmt.Sprintf("%d-%d", first, first+3), numbered*(id/4+1))
			}
			node(files, 0, "0-7", "10", 1024)
			topo, err := Read(tree(t, files))
			if err != nil {
				t.Fatal(err)
			}
			if topo.Count(Uncore) != 2 || topo.Units(topo.In(Uncore, topo.CPUs[6].Uncore), Core)[0] != 4 {
				t.Errorf("caches of %+v", topo.CPUs)
			}
		})
	}
}

func TestOfflineCPUsAreNotThere(t *testing.T) {
	files := map[string]string{cpuDir + "/online": "0,2-3", nodeDir + "/has_cpu": "0"}
	thread(files, 0, 0, "0", "0,2-3", 0)
	thread(files, 2, 0, "2-3", "0,2-3", 0)
	thread(files, 3, 0, "2-3", "0,2-3", 0)
	node(files, 0, "0-3", "10", 1024)
	topo, err := Read(tree(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if got := topo.All().String(); got != "0,2-3" || topo.CPUs[3].Core != 2 {
		t.Errorf("%s, %+v", got, topo.CPUs)
	}
}

func TestAKernelWithoutNUMAHasOneNode(t *testing.T) {
	files := map[string]string{cpuDir + "/online": "0-1"}
	thread(files, 0, 0, "0-1", "0-1", 0)
	thread(files, 1, 0, "0-1", "0-1", 0)
	topo, err := Read(tree(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if len(topo.Nodes) != 1 || topo.CPUs[1] != (CPU{ID: 1}) {
		t.Errorf("%+v", topo)
	}
}
