package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/kubelet/cgroups"
	"clipper.dev/clipper/internal/kubelet/configuration"
	"clipper.dev/clipper/internal/kubelet/cri"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/dra"
	"clipper.dev/clipper/internal/kubelet/images"
	"clipper.dev/clipper/internal/kubelet/node"
	"clipper.dev/clipper/internal/kubelet/objects"
	"clipper.dev/clipper/internal/kubelet/resources"
	"clipper.dev/clipper/internal/kubelet/shutdown"
	"clipper.dev/clipper/internal/kubelet/volumes"
	"clipper.dev/clipper/internal/kubelet/volumes/csi"
)

// Kubelet runs a node's pods.
type Kubelet struct {
	cfg     Config
	logger  *slog.Logger
	events  *events.Recorder
	cri     *cri.Client
	tree    *cgroups.Tree
	machine *node.Machine
	metrics *metrics

	hostIPs     []string
	capacity    corev1.ResourceList
	allocatable corev1.ResourceList
	translate   *criconfig.Node

	images    *images.Puller
	collector *images.Collector
	volumes   *volumes.Manager
	local     *localVolumes
	logLinks  *logLinks
	shutdown  *shutdown.Manager // nil if nothing waits for pods when the machine goes down
	attach    *attachWait
	csi       *csi.Plugin
	dra       *dra.Manager
	resources *resources.Manager
	users     *users
	tokens    *tokens
	health    health
	pressure  pressure

	// Made when Run begins, as they live in its context.
	objects  *objects.Cache
	statuses *statuses
	pods     *pods
	node     *node.Manager
	services client.TypedView[*corev1.Service]

	static       atomic.Bool   // the static pods have been read once
	staticNews   chan struct{} // something that static pods wait for has happened
	sourcesReady atomic.Bool   // all pods that the API had at first are known
	started      time.Time
}

// New prepares a kubelet. Nothing is started, and of the machine only the kubelet's own directories and control groups are touched.
func New(cfg Config) (*Kubelet, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := cfg.makeDirs(); err != nil {
		return nil, err
	}
	k := &Kubelet{cfg: cfg, logger: cfg.Logger, hostIPs: cfg.hostIPs(), started: time.Now(), staticNews: make(chan struct{}, 1)}
	k.metrics = newMetrics(cfg.Metrics, k.started)
	k.static.Store(cfg.Settings.StaticPodPath == "")
	var err error
	if k.machine, err = node.Inspect(cfg.RootDir); err != nil {
		return nil, err
	}
	k.capacity = k.machine.Capacity.DeepCopy()
	k.capacity[corev1.ResourcePods] = *resource.NewQuantity(int64(cfg.parsed.maxPods), resource.DecimalSI)
	k.allocatable = allocatable(k.capacity, cfg.reserved(k.capacity, true))
	if err := k.setupCgroups(); err != nil {
		return nil, err
	}
	if k.cri, err = cfg.connectRuntime(cri.NewMetrics(k.metrics.registry)); err != nil {
		return nil, err
	}
	k.events = events.New(events.Config{Client: cfg.Client, Component: "kubelet", Host: cfg.NodeName, Logger: cfg.Logger})
	k.translate = k.translation()
	if err := k.openImages(); err != nil {
		return nil, err
	}
	k.tokens = newTokens(cfg.Client)
	k.shutdown = k.newShutdown()
	k.logLinks = &logLinks{dir: cfg.LogLinkDir, target: cfg.Settings.PodLogsDir, logger: cfg.Logger}
	if err := k.openVolumes(); err != nil {
		return nil, err
	}
	if err := k.openClaims(); err != nil {
		return nil, err
	}
	if err := k.openResources(); err != nil {
		return nil, err
	}
	k.local = newLocalVolumes(cfg)
	if k.users, err = newUsers(k.volumes.PodDir, cfg.parsed.maxPods, cfg.Settings.UserNamespaces); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Kubelet) setupCgroups() (err error) {
	s := k.cfg.Settings
	if k.tree, err = cgroups.New(s.CgroupRoot); err != nil {
		return err
	}
	if !k.tree.V2() && *s.FailCgroupV1 {
		return errors.New("failCgroupV1: kubelet is configured to not run on a host using cgroup v1")
	}
	k.tree.PodPIDs = max(*s.PodPidsLimit, 0)
	k.tree.Took = k.metrics.cgroupDone
	k.tree.QuotaPeriod, k.tree.NoQuota = s.CPUCFSQuotaPeriod.Duration, !*s.CPUCFSQuota
	var bound corev1.ResourceList // what all pods together may use; nil is no bound
	if k.cfg.enforces(configuration.EnforcePods) {
		bound = allocatable(k.capacity, k.cfg.reserved(k.capacity, false))
	}
	if err := k.tree.Setup(allocatable(k.capacity, k.cfg.reserved(k.capacity, false)), bound); err != nil {
		return err
	}
	return k.boundReserved()
}

// boundReserved bounds what the system and Kubernetes themselves use, in groups that are there already, by what is kept for them.
func (k *Kubelet) boundReserved() error {
	s := k.cfg.Settings
	for _, r := range []struct {
		whole, compressible, field, group string
		list                              corev1.ResourceList
	}{
		{configuration.EnforceSystemReserved, configuration.EnforceSystemReservedCompressible, "systemReservedCgroup", s.SystemReservedCgroup, k.cfg.parsed.systemReserved},
		{configuration.EnforceKubeReserved, configuration.EnforceKubeReservedCompressible, "kubeReservedCgroup", s.KubeReservedCgroup, k.cfg.parsed.kubeReserved},
	} {
		list := r.list
		switch {
		case k.cfg.enforces(r.compressible):
			list = corev1.ResourceList{corev1.ResourceCPU: list[corev1.ResourceCPU]}
		case !k.cfg.enforces(r.whole):
			continue
		}
		if err := k.tree.Bound(r.group, list); err != nil {
			return fmt.Errorf("%s %s: %w", r.field, r.group, err)
		}
	}
	return nil
}

func (k *Kubelet) translation() *criconfig.Node {
	s, memory := k.cfg.Settings, k.machine.Capacity[corev1.ResourceMemory]
	return &criconfig.Node{
		Owner: k.cfg.owner(), LogDir: s.PodLogsDir, SeccompDir: k.cfg.parsed.seccompDir,
		ClusterDNS: s.ClusterDNS, ClusterDomain: s.ClusterDomain, ResolvConf: *s.ResolverConfig,
		MemoryCapacity: memory.Value(), PageSizes: k.machine.PageSizes,
		CgroupV2: k.tree.V2(), SwapAccounting: k.tree.SwapAccounting(),
		CPUCFSQuota: *s.CPUCFSQuota, QuotaPeriod: s.CPUCFSQuotaPeriod.Duration, SingleOOMKill: s.SingleProcessOOMKill != nil && *s.SingleProcessOOMKill,
		SeccompDefault: *s.SeccompDefault, MaskedPaths: k.machine.ThermalPaths,
	}
}

// Run runs the node's pods until ctx ends. Containers go on running afterwards.
func (k *Kubelet) Run(ctx context.Context) error {
	defer k.cri.Close()
	g, ctx := errgroup.WithContext(ctx)
	var err error
	if k.services, err = client.Services.View(ctx, k.cfg.Client, client.Selection{}); err != nil {
		return fmt.Errorf("watch services: %w", err)
	}
	k.pods = newPods(k)
	k.pods.ctx = ctx
	k.metrics.describe(k)
	k.objects = objects.New(ctx, k.cfg.Client, k.pods.refresh)
	k.statuses = newStatuses(ctx, k.cfg.Client, k.metrics.statusTook, k.logger)
	k.node = k.newNode()
	k.dra.Start(ctx)
	if err := k.resources.Start(ctx); err != nil {
		return err
	}
	k.events.Event(node.Reference(k.cfg.NodeName), corev1.EventTypeNormal, "Starting", "Starting kubelet.")

	g.Go(func() error { return k.events.Run(ctx) })
	g.Go(func() error { return k.node.Run(ctx) })
	g.Go(func() error { return k.resources.Run(ctx) })
	g.Go(func() error { return k.cri.Watch(ctx, k.pods.changed, k.listed) })
	g.Go(func() error { return k.followStatic(ctx) })
	g.Go(func() error { return k.followAPI(ctx, func() { k.sourcesReady.Store(true); k.adoptOrphans(ctx) }) })
	g.Go(func() error { return k.keepHouse(ctx) })
	g.Go(func() error { k.local.run(ctx); return nil })
	g.Go(func() error { return k.followPlugins(ctx) })
	g.Go(func() error { return newEvictor(k).run(ctx) })
	g.Go(func() error { return k.followKills(ctx) })
	if k.shutdown != nil {
		g.Go(func() error { return k.shutdown.Run(ctx) })
	}
	g.Go(func() error { return k.serve(ctx) })
	for _, f := range k.cfg.followed {
		g.Go(func() error { return f.Run(ctx) })
	}
	err = g.Wait()
	k.pods.wg.Wait()
	k.objects.Wait()
	k.dra.Wait()
	k.statuses.wait()
	return err
}

func (k *Kubelet) newNode() *node.Manager {
	s := k.cfg.Settings
	return node.New(node.Config{
		Client: k.cfg.Client, Events: k.events, Name: k.cfg.NodeName, Addresses: k.hostIPs,
		Labels: k.cfg.Labels, Annotations: k.local.annotations(), Taints: s.RegisterWithTaints, ProviderID: s.ProviderID, Port: s.Port, Version: k.cfg.Version,
		Machine: k.machine, Capacity: k.capacity, Allocatable: k.allocatable, Plugins: k.resources.Capacity, Fresh: k.resources.Fresh(),
		Health: k.checkHealth, Pressure: k.pressure.get, Images: k.listImages, InUse: k.csi.InUse, Changed: k.nodeChanged, Startup: k.metrics.startup, Logger: k.logger,
		CheckInterval: s.NodeStatusUpdateFrequency.Duration, ReportInterval: s.NodeStatusReportFrequency.Duration, LeaseDuration: time.Duration(s.NodeLeaseDurationSeconds) * time.Second,
	})
}

func (k *Kubelet) staticReady() bool { return k.static.Load() }
func (k *Kubelet) setStaticReady()   { k.static.Store(true) }

// Pods returns what is known of all pods on the node.
func (k *Kubelet) Pods() []Snapshot { return k.pods.list() }

// evict ends a pod because the node asks for it; false if it isn't there or ending already. grace in seconds; nil is the pod's own.
func (k *Kubelet) evict(uid types.UID, r *killRequest) bool { return k.pods.kill(uid, r) }
