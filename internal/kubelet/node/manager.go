package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
)

const (
	// unreadyInterval is how often a node that isn't ready is looked at: nobody shall wait for a poll.
	unreadyInterval = 100 * time.Millisecond
	unreadyFor      = 30 * time.Second
	retryInterval   = 200 * time.Millisecond
	conflictRetries = 5
)

// Health is what the runtime says of itself.
type Health struct {
	// Version is "containerd://2.1.0".
	Version string
	// Problems keep the node from being ready; nil is none.
	Problems []error
	Handlers []corev1.NodeRuntimeHandler
	Features *corev1.NodeFeatures
}

// Pressure tells which resources are short.
type Pressure struct {
	Memory, Disk, PID bool
}

// Config is what a Manager needs.
type Config struct {
	Client                client.Client
	Events                *events.Recorder
	Name                  string
	Addresses             []string
	Labels                map[string]string
	Annotations           map[string]string
	Taints                []corev1.Taint
	ProviderID            string
	Port                  int32
	Version               string
	Machine               *Machine
	Capacity, Allocatable corev1.ResourceList
	// Plugins tells what device plugins offer of capacity, and how much of it can be given.
	Plugins func() (capacity, allocatable corev1.ResourceList)
	// Fresh tells that what the Node object says of extended resources when the kubelet starts is outdated.
	Fresh bool
	// Health asks the runtime.
	Health func(context.Context) Health
	// Pressure and Images tell what else is reported.
	Pressure func() Pressure
	Images   func(context.Context) ([]corev1.ContainerImage, error)
	// InUse lists the volumes that must not be detached from the node.
	InUse func() []corev1.UniqueVolumeName
	// Changed is called when the Node object has changed, before its ranges count as in use.
	Changed func(context.Context, *corev1.Node)
	// CheckInterval is how often a settled node is looked at, ReportInterval how often its status is written unchanged.
	CheckInterval, ReportInterval time.Duration
	// LeaseDuration is how long the node counts as alive after each renewal of its lease, which comes four times as often.
	LeaseDuration time.Duration
	Startup       *Startup
	Logger        *slog.Logger
}

// Manager keeps the Node object.
type Manager struct {
	cfg  Config
	wake chan struct{}

	mu   sync.Mutex
	node *corev1.Node // as last read or written
	ok   bool         // the last health was good

	reported time.Time
	started  time.Time
	outdated []corev1.ResourceName // resources in the status that nothing stands for any more
}

// New returns a manager.
func New(cfg Config) *Manager {
	return &Manager{cfg: cfg, wake: make(chan struct{}, 1), started: time.Now()}
}

// Reference names the node in events.
func Reference(name string) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: types.UID(name)}
}

// Node returns the Node object as last seen; nil before it's registered.
func (m *Manager) Node() *corev1.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

// Ready tells whether the last look found the node ready.
func (m *Manager) Ready() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ok
}

// Check makes the manager look at the node now.
func (m *Manager) Check() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run registers the node and keeps it until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	if err := m.register(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	view, err := client.Nodes.View(ctx, m.cfg.Client, client.Selection{Name: m.cfg.Name})
	if err != nil {
		return fmt.Errorf("watch node %s: %w", m.cfg.Name, err)
	}
	g.Go(func() error {
		err := view.Subscribe(ctx, func(_, now *corev1.Node) { m.observe(ctx, now) })
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("watch node %s: %w", m.cfg.Name, err)
	})
	g.Go(func() error { m.keepStatus(ctx); return nil })
	g.Go(func() error { m.keepLease(ctx); return nil })
	return g.Wait()
}

// observe takes in a change of the Node object. One that was deleted is registered anew with the next look.
func (m *Manager) observe(ctx context.Context, node *corev1.Node) {
	m.mu.Lock()
	m.node = node
	m.mu.Unlock()
	if node != nil {
		m.cfg.Changed(ctx, node)
	}
	if node == nil || !m.Ready() {
		m.Check()
	}
}

func (m *Manager) keepStatus(ctx context.Context) {
	for {
		interval := m.cfg.CheckInterval
		if err := m.report(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("node status not written", "error", err)
			interval = time.Second
		}
		if !m.Ready() && time.Since(m.started) < unreadyFor {
			interval = unreadyInterval
		}
		timer := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// report looks at the node and writes its status if that has changed or is old.
func (m *Manager) report(ctx context.Context) error {
	health := m.cfg.Health(ctx)
	m.mu.Lock()
	node := m.node
	m.ok = len(health.Problems) == 0
	m.mu.Unlock()
	if node == nil {
		return m.register(ctx)
	}
	images, err := m.cfg.Images(ctx)
	if err != nil {
		images = node.Status.Images
	}
	for range conflictRetries {
		now := time.Now()
		next := node.DeepCopy()
		m.setStatus(&next.Status, health, images, now)
		if equalStatus(&node.Status, &next.Status) && now.Sub(m.reported) < m.cfg.ReportInterval {
			return nil
		}
		written, err := client.Nodes.UpdateStatus(ctx, m.cfg.Client, next)
		switch {
		case err == nil:
			m.reported, m.outdated = now, nil
			m.remember(written)
			if m.Ready() {
				m.cfg.Startup.settled()
			}
			m.tell(&node.Status, &next.Status)
			return nil
		case !apierrors.IsConflict(err):
			return fmt.Errorf("update status of node %s: %w", m.cfg.Name, err)
		}
		if node, err = client.Nodes.Get(ctx, m.cfg.Client, "", m.cfg.Name); err != nil {
			return fmt.Errorf("read node %s: %w", m.cfg.Name, err)
		}
	}
	return fmt.Errorf("update status of node %s: somebody else always comes first", m.cfg.Name)
}

// remember keeps what was written unless the view is ahead already.
func (m *Manager) remember(node *corev1.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node == nil || revision(node) > revision(m.node) {
		m.node = node
	}
}

func revision(n *corev1.Node) int64 {
	var v int64
	for _, c := range n.ResourceVersion {
		v = v*10 + int64(c-'0')
	}
	return v
}

func equalStatus(a, b *corev1.NodeStatus) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	for _, s := range []*corev1.NodeStatus{x, y} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return apiequality.Semantic.DeepEqual(x, y)
}

// tell records events for conditions that have changed.
func (m *Manager) tell(old, now *corev1.NodeStatus) {
	for i := range now.Conditions {
		c := &now.Conditions[i]
		if prev := find(old.Conditions, c.Type); prev != nil && prev.Status == c.Status {
			continue
		}
		if reason := eventReason(c); reason != "" {
			m.cfg.Events.Eventf(Reference(m.cfg.Name), corev1.EventTypeNormal, reason, "Node %s status is now: %s", m.cfg.Name, reason)
		}
	}
}

func eventReason(c *corev1.NodeCondition) string {
	reasons := map[corev1.NodeConditionType][2]string{
		corev1.NodeReady:          {"NodeReady", "NodeNotReady"},
		corev1.NodeMemoryPressure: {"NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
		corev1.NodeDiskPressure:   {"NodeHasDiskPressure", "NodeHasNoDiskPressure"},
		corev1.NodePIDPressure:    {"NodeHasInsufficientPID", "NodeHasSufficientPID"},
	}
	if c.Status == corev1.ConditionTrue {
		return reasons[c.Type][0]
	}
	return reasons[c.Type][1]
}

// register creates the Node object, or brings an existing one up to date. It goes on until it succeeds or ctx ends.
func (m *Manager) register(ctx context.Context) error {
	for first := true; ; first = false {
		node, err := m.registerOnce(ctx)
		if err == nil {
			m.remember(node)
			m.cfg.Changed(ctx, node)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if first {
			m.cfg.Logger.Warn("node not registered yet", "error", err)
		}
		timer := time.NewTimer(retryInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// registerOnce looks before it creates: where nothing can be written, as on a full disk, a node that is known goes on.
func (m *Manager) registerOnce(ctx context.Context) (*corev1.Node, error) {
	m.cfg.Startup.attempt()
	existing, err := client.Nodes.Get(ctx, m.cfg.Client, "", m.cfg.Name)
	if err == nil {
		return m.adopt(ctx, existing)
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read node %s: %w", m.cfg.Name, err)
	}
	wanted := m.initial()
	health := m.cfg.Health(ctx)
	m.setStatus(&wanted.Status, health, nil, time.Now())
	node, err := client.Nodes.Create(ctx, m.cfg.Client, wanted)
	if err != nil {
		return nil, fmt.Errorf("register node %s: %w", m.cfg.Name, err)
	}
	m.mu.Lock()
	m.ok = len(health.Problems) == 0
	m.mu.Unlock()
	m.reported = time.Now()
	m.cfg.Startup.created()
	if m.Ready() {
		m.cfg.Startup.settled()
	}
	m.tell(&corev1.NodeStatus{}, &wanted.Status)
	return node, nil
}

// adopt makes a Node that is there say what it is to say from its registration on.
func (m *Manager) adopt(ctx context.Context, existing *corev1.Node) (*corev1.Node, error) {
	wanted := m.initial()
	m.tellReboot(existing)
	next := existing.DeepCopy()
	if m.cfg.Fresh {
		m.outdated = extended(existing.Status.Capacity)
	}
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	for k, v := range wanted.Labels {
		next.Labels[k] = v
	}
	for k, v := range m.cfg.Annotations {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, k, v)
	}
	if next.Spec.ProviderID == "" {
		next.Spec.ProviderID = wanted.Spec.ProviderID
	}
	if apiequality.Semantic.DeepEqual(existing, next) {
		return existing, nil
	}
	updated, err := client.Nodes.Update(ctx, m.cfg.Client, next)
	if err != nil {
		return nil, fmt.Errorf("update node %s: %w", m.cfg.Name, err)
	}
	return updated, nil
}

func (m *Manager) tellReboot(node *corev1.Node) {
	was, is := node.Status.NodeInfo.BootID, m.cfg.Machine.Info.BootID
	if was != "" && is != "" && was != is {
		m.cfg.Events.Eventf(Reference(m.cfg.Name), corev1.EventTypeWarning, "Rebooted", "Node %s has been rebooted, boot id: %s", m.cfg.Name, is)
	}
}

// initial is the Node object of a first registration.
func (m *Manager) initial() *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.cfg.Name, Labels: map[string]string{}}}
	for k, v := range m.cfg.Labels {
		node.Labels[k] = v
	}
	info := &m.cfg.Machine.Info
	for k, v := range map[string]string{
		corev1.LabelHostname: m.cfg.Name, corev1.LabelOSStable: info.OperatingSystem, corev1.LabelArchStable: info.Architecture,
		"beta.kubernetes.io/os": info.OperatingSystem, "beta.kubernetes.io/arch": info.Architecture,
	} {
		node.Labels[k] = v
	}
	node.Annotations = map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
	for k, v := range m.cfg.Annotations {
		node.Annotations[k] = v
	}
	node.Spec.Taints = m.cfg.Taints
	node.Spec.ProviderID = m.cfg.ProviderID
	return node
}

// message joins what keeps a node from being ready, as its condition shows it.
func (h *Health) message() string {
	return joinErrors(h.Problems)
}

func joinErrors(list []error) string {
	if len(list) == 1 {
		return list[0].Error()
	}
	text := "["
	for i, err := range list {
		if i > 0 {
			text += ", "
		}
		text += err.Error()
	}
	return text + "]"
}

// ErrNoStatus is a problem of a runtime that tells nothing.
var ErrNoStatus = errors.New("container runtime status check may not have completed yet")
