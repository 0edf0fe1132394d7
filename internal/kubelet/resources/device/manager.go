package device

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"clipper.dev/clipper/internal/kubelet/resources/metrics"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// Config is what a Manager is made from.
type Config struct {
	// Dir holds the socket that plugins register at, their own sockets and the state.
	Dir string
	// Nodes are the machine's NUMA nodes.
	Nodes []int
	// Affinity is what the topology manager has decided for a container.
	Affinity func(uid types.UID, container string) topology.Hint
	// Running tells whether a container runs already, as after a restart of the kubelet.
	Running func(uid types.UID, container string) bool
	// Changed is called when the node's capacity has changed, Sick when devices of pods have become healthy or unhealthy.
	Changed func()
	Sick    func([]types.UID)
	Metrics *metrics.Metrics
	Logger  *slog.Logger
}

// Manager gives containers devices. It implements topology.Provider.
type Manager struct {
	cfg   Config
	fresh bool // no state was found

	ctx context.Context // that of Start
	wg  sync.WaitGroup

	// allocating is held while devices are chosen and a plugin is asked; mu is never held across a call.
	allocating sync.Mutex

	mu     sync.Mutex
	kinds  map[string]*kind
	grants grants
	gone   map[string]bool // resources that there were
}

// New reads the state. One that can't be read is told of and left.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, kinds: map[string]*kind{}, gone: map[string]bool{}}
	var registered []string
	var err error
	if m.grants, registered, m.fresh, err = load(m.path()); err != nil {
		cfg.Logger.Warn("devices that containers have are not known: their state was not read", "error", err)
	}
	for _, name := range registered {
		m.kinds[name] = &kind{lost: time.Now()}
	}
	return m
}

func (m *Manager) path() string { return filepath.Join(m.cfg.Dir, stateFile) }

// Fresh tells whether there was no state: the node may have been set up anew, and what its object tells of devices may be wrong.
func (m *Manager) Fresh() bool { return m.fresh }

// Idle tells that no container has devices.
func (m *Manager) Idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.grants) == 0
}

// save writes the state; the lock is held.
func (m *Manager) save() error {
	registered := map[string][]string{}
	for name, k := range m.kinds {
		registered[name] = sets.List(k.healthy())
	}
	return save(m.path(), m.grants, registered)
}

func (m *Manager) saveOrWarn() {
	if err := m.save(); err != nil {
		m.cfg.Logger.Warn("state of devices not written", "error", err)
	}
}

// Capacity returns what the node has of each resource, and how much of it can be given. Resources that have gone have none.
func (m *Manager) Capacity() (capacity, allocatable corev1.ResourceList) {
	m.mu.Lock()
	defer m.mu.Unlock()
	expired := false
	for name, k := range m.kinds {
		if k.plugin == nil && time.Since(k.lost) > absence {
			delete(m.kinds, name)
			m.gone[name], expired = true, true
		}
	}
	if expired {
		m.saveOrWarn()
	}
	if len(m.kinds)+len(m.gone) == 0 {
		return nil, nil
	}
	capacity, allocatable = corev1.ResourceList{}, corev1.ResourceList{}
	put := func(name string, all, good int) {
		capacity[corev1.ResourceName(name)] = *resource.NewQuantity(int64(all), resource.DecimalSI)
		allocatable[corev1.ResourceName(name)] = *resource.NewQuantity(int64(good), resource.DecimalSI)
	}
	for name := range m.gone {
		put(name, 0, 0)
	}
	for name, k := range m.kinds {
		put(name, len(k.devices), k.healthy().Len())
	}
	return capacity, allocatable
}

// Cover raises what a node can give to at least what has been given, so that a pod that has devices already isn't refused for them.
func (m *Manager) Cover(uid types.UID, allocatable corev1.ResourceList) corev1.ResourceList {
	m.mu.Lock()
	defer m.mu.Unlock()
	mine := false
	for o := range m.grants {
		mine = mine || o.uid == uid
	}
	if !mine {
		return allocatable
	}
	out := maps.Clone(allocatable)
	for _, by := range m.grants {
		for name := range by {
			given := int64(m.grants.used(name).Len())
			if have, ok := out[corev1.ResourceName(name)]; !ok || have.Value() < given {
				out[corev1.ResourceName(name)] = *resource.NewQuantity(given, resource.DecimalSI)
			}
		}
	}
	return out
}

// Keep takes back what other pods have than some.
func (m *Manager) Keep(pods map[types.UID]*corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.grants, func(o owner, _ map[string]grant) bool { return pods[o.uid] == nil })
}

// list takes in a plugin's list of devices.
func (m *Manager) list(p *plugin, devices []*pluginapi.Device) {
	m.mu.Lock()
	k := m.kinds[p.resource]
	if k == nil || k.plugin != p {
		m.mu.Unlock()
		return
	}
	before := k.devices
	k.devices, k.listed = make(map[string]*pluginapi.Device, len(devices)), true
	changed := sets.New[string]()
	for _, d := range devices {
		k.devices[d.ID] = d
		if old := before[d.ID]; old == nil || old.Health != d.Health {
			changed.Insert(d.ID)
		}
	}
	sick := m.having(p.resource, changed)
	m.saveOrWarn()
	m.mu.Unlock()
	m.cfg.Logger.Debug("devices listed", "resource", p.resource, "devices", len(devices))
	m.cfg.Changed()
	if len(sick) > 0 {
		m.cfg.Sick(sick)
	}
}

// having returns the pods that have one of some devices; the lock is held.
func (m *Manager) having(name string, devices sets.Set[string]) []types.UID {
	found := sets.New[types.UID]()
	for o, by := range m.grants {
		if given, ok := by[name]; ok && given.devices.ids().Intersection(devices).Len() > 0 {
			found.Insert(o.uid)
		}
	}
	return found.UnsortedList()
}

// offers tells whether a resource is a plugin's; the lock is held.
func (m *Manager) offers(name corev1.ResourceName) bool {
	return m.kinds[string(name)] != nil || m.grants.has(string(name))
}

// requests lists, in order, how many devices a container asks for; the lock is held.
func (m *Manager) requests(pod *corev1.Pod, c *corev1.Container) []request {
	var out []request
	if len(m.kinds)+len(m.grants) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
		q := c.Resources.Limits[name]
		if q.Value() > 0 && m.offers(name) && !claimed(pod, c.Name, name) {
			out = append(out, request{string(name), int(q.Value())})
		}
	}
	return out
}

// request asks for a number of devices of a resource.
type request struct {
	resource string
	count    int
}

// claimed tells whether a container gets a resource by way of a claim.
func claimed(pod *corev1.Pod, container string, name corev1.ResourceName) bool {
	s := pod.Status.ExtendedResourceClaimStatus
	return s != nil && slices.ContainsFunc(s.RequestMappings, func(r corev1.ContainerExtendedResourceRequest) bool {
		return r.ContainerName == container && r.ResourceName == string(name)
	})
}

// String names a container in messages.
func (o owner) String() string { return fmt.Sprintf("pod %q container %q", o.uid, o.container) }
