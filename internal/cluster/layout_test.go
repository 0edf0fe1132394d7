package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLayout(t *testing.T) {
	t.Run("names_that_are_no_labels_are_refused", func(t *testing.T) {
		for _, name := range []string{"-a", "a-", "A", "a/b", "a b", "..", strings.Repeat("a", 41)} {
			if _, err := NewLayout(name); err == nil {
				t.Errorf("%q was accepted", name)
			}
		}
	})
	t.Run("two_clusters_share_nothing", func(t *testing.T) {
		a, _ := NewLayout("")
		b, _ := NewLayout("test")
		c := b.Node(2)
		for _, pair := range [][3]string{
			{"data", a.DataDir, b.DataDir}, {"run", a.RunDir, b.RunDir}, {"log", a.LogDir, b.LogDir}, {"etc", a.ConfigDir, b.ConfigDir},
			{"bridge", a.Bridge, b.Bridge}, {"tables", a.NFTables, b.NFTables}, {"cgroups", a.CgroupRoot, b.CgroupRoot},
			{"node data", b.DataDir, c.DataDir}, {"node cgroups", b.CgroupRoot, c.CgroupRoot}, {"node run", b.RunDir, c.RunDir},
		} {
			if pair[1] == pair[2] {
				t.Errorf("%s: both have %s", pair[0], pair[1])
			}
		}
		if a.APIPort == b.APIPort || a.KubeletPort == b.KubeletPort || a.PeerPort == b.PeerPort {
			t.Error("they share a port")
		}
		if a.PodCIDR.Overlaps(b.PodCIDR) || a.ServiceCIDR.Overlaps(b.ServiceCIDR) || b.PodCIDR.Overlaps(b.ServiceCIDR) || b.NodeCIDR.Overlaps(b.ServiceCIDR) {
			t.Error("their addresses overlap")
		}
	})
	t.Run("interface_names_fit", func(t *testing.T) {
		l, _ := NewLayout("a-name-that-is-quite-long")
		for _, name := range []string{l.Bridge, l.NodeBridge, l.VXLAN, l.DNSDevice} {
			if len(name) > 15 {
				t.Errorf("%s is longer than 15 bytes", name)
			}
		}
	})
}

func TestLinksOfARunningClusterInTheSameSlotAreItsOwn(t *testing.T) {
	l, _ := NewLayout("ns3-dp")
	other, _ := NewLayout("ns3-conf")
	if l.Bridge != other.Bridge {
		t.Fatal("choose two names that share a slot")
	}
	run := t.TempDir()
	l.RunDir, other.RunDir = filepath.Join(run, "clipper-ns3-dp"), filepath.Join(run, "clipper-ns3-conf")
	for _, dir := range []string{l.RunDir, other.RunDir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := neighbour(l); got != "" {
		t.Errorf("%s is a neighbour, but doesn't run", got)
	}
	held, err := lockPIDFile(other.PIDFile())
	if err != nil {
		t.Fatal(err)
	}
	if got := neighbour(l); got != "ns3-conf" {
		t.Errorf("the neighbour is %q", got)
	}
	if got := neighbour(other); got != "" {
		t.Errorf("%s is its own neighbour", got)
	}
	held.file.Close()
}
