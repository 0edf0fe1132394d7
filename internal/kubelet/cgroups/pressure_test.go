package cgroups

import (
	"os"
	"path/filepath"
	"testing"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func TestPressureIsReadAsTheKernelWritesIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.pressure")
	text := "some avg10=6.57 avg60=2.72 avg300=1.66 total=1820449870\nfull avg10=0.00 avg60=0.00 avg300=0.21 total=198782017\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	want := stats.PSIStats{
		Some: stats.PSIData{Avg10: 6.57, Avg60: 2.72, Avg300: 1.66, Total: 1820449870},
		Full: stats.PSIData{Avg300: 0.21, Total: 198782017},
	}
	if got := readPressure(file); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := readPressure(file + ".absent"); got != (stats.PSIStats{}) {
		t.Errorf("a kernel that tells nothing tells %+v", got)
	}
}

func TestUsageOfAGroupOfVersion2TellsSwapAndPressure(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cpu.stat": "usage_usec 5\n", "memory.stat": "anon 4096\nfile 8192\ninactive_file 4096\n", "memory.current": "12288\n",
		"memory.swap.current": "8192\n", "memory.swap.max": "max\n", "io.pressure": "some avg10=1.00 avg60=0.00 avg300=0.00 total=7\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u, err := usageV2(dir)
	if err != nil {
		t.Fatal(err)
	}
	if u.SwapBytes != 8192 || u.SwapLimit != NoLimit || u.IOPressure.Some.Total != 7 || u.WorkingSetBytes != 8192 {
		t.Errorf("usage = %+v", u)
	}
}
