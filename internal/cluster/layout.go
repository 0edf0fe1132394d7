package cluster

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
)

// DefaultName is the name of a cluster that was given none.
const DefaultName = "clipper"

// Layout is everything that a cluster touches on its machine: folders, ports, addresses, interfaces, cgroups, nftables
// tables, namespaces. All of it follows from the cluster's name, so that clusters run side by side, and a purge knows what to remove.
type Layout struct {
	Name string // of the cluster

	ConfigDir string // /etc/clipper: kubeconfig and the administrator's files
	DataDir   string // /var/lib/clipper: everything that must survive
	RunDir    string // /run/clipper: sockets, process IDs, locks
	LogDir    string // /var/log/clipper: the daemon's log and the pods'

	APIPort     int
	KubeletPort int // of the first node; the further ones listen in their own network namespaces
	PeerPort    int // etcd's peers

	PodCIDR     netip.Prefix
	ServiceCIDR netip.Prefix
	NodeCIDR    netip.Prefix // joins the nodes of one machine

	Bridge     string // of the pods
	NodeBridge string // of the nodes on one machine
	VXLAN      string
	VNI        int
	VXLANPort  int
	DNSDevice  string // carries the DNS service's address
	NFTables   string // the tables' name, and the prefix of further ones
	CgroupRoot string // "/clipper" in every hierarchy
	RootDir    string // of the kubelet; "" is in DataDir
}

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

const logRoot = "/var/log"

// NewLayout derives a cluster's layout from its name.
func NewLayout(name string) (Layout, error) {
	if name == "" {
		name = DefaultName
	}
	if !validName.MatchString(name) {
		return Layout{}, fmt.Errorf("cluster name %q: use at most 40 lower-case letters, digits and dashes, with a letter or digit at both ends", name)
	}
	id, slot := name, 0
	if name != DefaultName {
		id, slot = DefaultName+"-"+name, slotOf(name)
	}
	l := Layout{
		Name:      name,
		ConfigDir: filepath.Join("/etc", id),
		DataDir:   filepath.Join("/var/lib", id),
		RunDir:    filepath.Join("/run", id),
		LogDir:    filepath.Join(logRoot, id),

		APIPort:     6443,
		KubeletPort: 10250,
		PeerPort:    2380,

		PodCIDR:     netip.MustParsePrefix("10.244.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
		NodeCIDR:    netip.MustParsePrefix("10.243.0.0/24"),

		VNI:        1 + slot,
		VXLANPort:  8472,
		NFTables:   id,
		CgroupRoot: "/" + id,
	}
	if slot > 0 {
		// One /16 for each: half for pods, a quarter for Services, a /24 for the nodes; and a block of ports.
		l.PodCIDR = netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/17", slot))
		l.ServiceCIDR = netip.MustParsePrefix(fmt.Sprintf("10.%d.128.0/18", slot))
		l.NodeCIDR = netip.MustParsePrefix(fmt.Sprintf("10.%d.192.0/24", slot))
		l.APIPort, l.KubeletPort, l.PeerPort = 20000+10*slot, 20001+10*slot, 20002+10*slot
		l.VXLANPort = 20003 + 10*slot
	}
	// An interface's name has 15 bytes at most.
	link := "clip"
	if slot > 0 {
		link += strconv.Itoa(slot)
	}
	l.Bridge, l.NodeBridge, l.VXLAN, l.DNSDevice = link+"-br", link+"-nodes", link+"-vx", link+"-dns"
	return l, nil
}

// slotOf spreads names over the slots that the default cluster leaves free: 1 to 90, 10.1.0.0/16 to 10.90.0.0/16.
func slotOf(name string) int {
	h := fnv.New32a()
	h.Write([]byte(name))
	return 1 + int(h.Sum32()%90)
}

// Node returns the layout of a further node on the same machine: its own folders, cgroups and namespace below the cluster's.
func (l Layout) Node(n int) Layout {
	suffix := "node" + strconv.Itoa(n)
	l.DataDir = filepath.Join(l.DataDir, "nodes", suffix)
	l.RunDir = filepath.Join(l.RunDir, suffix)
	l.LogDir = filepath.Join(l.LogDir, suffix)
	l.ConfigDir = filepath.Join(l.DataDir, "etc")
	l.CgroupRoot += "-" + suffix
	return l
}

// NetNS is the name of the network namespace of node n on this machine.
func (l Layout) NetNS(n int) string {
	return filepath.Base(l.DataDir) + "-node" + strconv.Itoa(n)
}

// Kubeconfig is the administrator's.
func (l Layout) Kubeconfig() string { return filepath.Join(l.ConfigDir, "kubeconfig") }

// PKIDir holds the certificates and keys.
func (l Layout) PKIDir() string { return filepath.Join(l.DataDir, "pki") }

// EtcdDir holds the database.
func (l Layout) EtcdDir() string { return filepath.Join(l.DataDir, "etcd") }

// KubeletDir holds the pods' volumes.
func (l Layout) KubeletDir() string { return cmp.Or(l.RootDir, filepath.Join(l.DataDir, "kubelet")) }

// VolumesDir holds the volumes that the built-in provisioner makes.
func (l Layout) VolumesDir() string { return filepath.Join(l.DataDir, "volumes") }

// PodLogDir holds the containers' logs, where the well-known folder isn't used.
func (l Layout) PodLogDir() string { return filepath.Join(l.LogDir, "pods") }

// isDefault tells whether this is the first node of the cluster that was given no name: it has what a machine has once.
func (l Layout) isDefault() bool { return l.LogDir == filepath.Join(logRoot, DefaultName) }

// RuntimeDir holds images and containers.
func (l Layout) RuntimeDir() string { return filepath.Join(l.DataDir, "runtime") }

// NetworkDir holds the address leases.
func (l Layout) NetworkDir() string { return filepath.Join(l.DataDir, "network") }

// RuntimeSocket is where the built-in runtime serves CRI.
func (l Layout) RuntimeSocket() string { return filepath.Join(l.RunDir, "cri.sock") }

// LogFile is the daemon's log.
func (l Layout) LogFile() string { return filepath.Join(l.LogDir, "clipper.log") }

// PIDFile holds the daemon's process ID while it runs, and its lock.
func (l Layout) PIDFile() string { return filepath.Join(l.RunDir, "clipper.pid") }

// ServiceIP returns the n-th address of the Service range: 1 is the API's, 10 the DNS'.
func (l Layout) ServiceIP(n byte) netip.Addr {
	a := l.ServiceCIDR.Addr().As4()
	a[3] += n
	return netip.AddrFrom4(a)
}

// NodeIP returns the address of node n on the machine's own node network; 1 is the server's.
func (l Layout) NodeIP(n int) netip.Addr {
	a := l.NodeCIDR.Addr().As4()
	a[3] += byte(n)
	return netip.AddrFrom4(a)
}
