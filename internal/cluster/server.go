package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/allocation"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/scheduler"
)

// RunServer runs a server, the control plane and, unless it's told not to, a node, until ctx ends. Containers run on.
func RunServer(ctx context.Context, o ServerOptions) error {
	l := o.Layout
	if err := o.validate(); err != nil {
		return err
	}
	if pid := runningPID(l.PIDFile()); pid != 0 {
		return fmt.Errorf("cluster %s runs already (process %d)", l.Name, pid)
	}
	if err := Check(l); err != nil {
		return err
	}
	if err := claim(l); err != nil {
		return err
	}
	held, err := lockPIDFile(l.PIDFile())
	if errors.Is(err, errRunning) {
		return fmt.Errorf("cluster %s runs already (process %d)", l.Name, runningPID(l.PIDFile()))
	}
	if err != nil {
		return err
	}
	defer held.file.Close()
	if o.NoNode || o.APIOnly {
		o.KubeletOptions = KubeletOptions{} // they are for the nodes that join
	}
	nodeIP, err := o.complete(&o.Layout, 1)
	if err != nil {
		return err
	}
	l = o.Layout
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(l.APIPort))
	if err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	defer listener.Close()
	s := &server{opts: &o, nodeIP: nodeIP, listener: listener, metrics: prometheus.NewRegistry()}
	s.metrics.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.open(ctx); err != nil {
		return s.close(err)
	}
	return s.close(s.run(ctx))
}

// server is a server's process.
type server struct {
	opts     *ServerOptions
	nodeIP   netip.Addr
	listener net.Listener
	metrics  *prometheus.Registry // what /metrics shows: the control plane; the node has its own
	plane    *controlPlane
	node     *node
}

// open makes the parts, those that don't need each other at the same time.
func (s *server) open(ctx context.Context) error {
	o := s.opts
	var g errgroup.Group
	if !o.NoNode && !o.APIOnly {
		g.Go(func() (err error) {
			s.node, err = openNode(o.Layout, &o.NodeOptions, s.nodeIP, o.Keeper, prometheus.NewRegistry(), o.Logger)
			if err == nil {
				o.Progress.Step("container runtime and pod network are up")
			}
			return err
		})
	}
	g.Go(func() error { return s.openPlane(ctx) })
	return g.Wait()
}

func (s *server) openPlane(ctx context.Context) (err error) {
	o := s.opts
	p := &controlPlane{opts: o, nodeIP: s.nodeIP, metrics: s.metrics, log: o.Logger}
	s.plane = p
	if p.keys, err = openKeys(o, s.nodeIP); err != nil {
		return err
	}
	o.Progress.Step("certificates are in %s", o.Layout.PKIDir())
	if p.store, err = openStore(ctx, o, p.keys, s.nodeIP); err != nil {
		return err
	}
	o.Progress.Step("etcd is up")
	return nil
}

// close gives up what is left, whatever err is.
func (s *server) close(err error) error {
	if s.plane != nil {
		err = errors.Join(err, s.plane.audit.Close())
	}
	if s.plane != nil && s.plane.store != nil {
		err = errors.Join(err, s.plane.store.Close())
	}
	return err
}

// run makes everything work together until ctx ends.
func (s *server) run(ctx context.Context) error {
	p, o := s.plane, s.opts
	parent := ctx
	g, ctx := newTasks(ctx, p.store, o.Logger)
	if s.node != nil {
		g.Go(func() error { return s.node.serveRuntime(ctx) })
	}
	if err := p.openEngine(ctx); err != nil {
		return err
	}
	self := p.engine.Client(engineUser)
	alloc, err := allocation.New(ctx, self, allocation.Config{
		Store: p.store, Transformer: p.atRest.For(schema.GroupResource{Resource: "servicenodeportallocations"}), Metrics: s.metrics, Logger: o.Logger.With("component", "allocation"),
	})
	if err != nil {
		return err
	}
	if err := alloc.Load(ctx); err != nil {
		return err
	}
	core.Services.Hooks = alloc.Hooks()
	g.Go(func() error { return p.serve(ctx, s.listener) })
	g.Go(func() error { return ignoreEnd(ctx, p.keys.Run(ctx)) })
	g.Go(func() error { return alloc.Run(ctx) })
	g.Go(func() error { return ignoreEnd(ctx, p.crds.Run(ctx)) })
	g.Go(func() error { return ignoreEnd(ctx, p.remote.Run(ctx)) })
	g.Go(func() error { return ignoreEnd(ctx, p.engine.Fairness().Run(ctx, self, p.fair)) })
	g.Go(func() error { return revive(ctx, p.store, o.Layout.EtcdDir(), o.Logger) })
	g.Go(func() error { returnMemory(ctx, p.pack, o.Logger); return nil })
	g.Go(func() error { spendMemory(ctx); return nil })
	if err := easeMonitor(); err != nil {
		o.Logger.Debug("each request costs more wake-ups than it needs", "error", err)
	}
	if err := s.writeAccess(); err != nil {
		return err
	}
	o.Progress.Step("API server answers at https://%s", p.address())
	if err := p.bootstrapObjects(ctx); err != nil {
		return err
	}
	if o.APIOnly {
		o.Progress.Ready()
		return ignoreEnd(parent, g.Wait())
	}
	for _, component := range []string{"controller-manager", "scheduler"} {
		p.engine.AddComponent(component, func(context.Context) error { return ctx.Err() }) // one that fails ends the process
	}
	g.Go(func() error { return s.runControllers(ctx) })
	g.Go(func() error { return s.runScheduler(ctx) })
	o.Progress.Step("controllers and scheduler are up")
	if o.NoNode {
		o.Progress.Ready()
		return ignoreEnd(parent, g.Wait())
	}
	if err := s.runNode(ctx, g); err != nil {
		return err
	}
	return ignoreEnd(parent, g.Wait())
}

// runNode starts the server's own node: its client reads the cache and writes through the engine as the node's user.
func (s *server) runNode(ctx context.Context, g *tasks) error {
	p, o := s.plane, s.opts
	c := p.engine.Client(nodeUser(o.NodeName))
	// The node acts in process: nothing needs its client certificate.
	_, serving, err := p.keys.IssueNode(o.NodeName, []string{o.NodeName}, []net.IP{s.nodeIP.AsSlice(), net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return fmt.Errorf("issue the node's certificates: %w", err)
	}
	k, err := s.node.openKubelet(c, kubeletIdentity{getCertificate: serving.GetCertificate, clientCA: p.keys.Authority().Pool()})
	if err != nil {
		return err
	}
	g.Go(func() error { return s.node.run(ctx, c) })
	g.Go(func() error { return k.Run(ctx) })
	g.Go(func() error {
		if err := s.node.importDemo(ctx); err != nil { // the first pod that anybody starts may want it
			return err
		}
		return readyOnce(ctx, p.engine.Client(engineUser), o.NodeName, func() {
			o.Progress.Step("node %s is Ready", o.NodeName)
			o.Progress.Ready()
		})
	})
	return nil
}

// writeAccess writes the administrator's kubeconfig and the address for joining.
func (s *server) writeAccess() error {
	l := s.opts.Layout
	kubeconfig, err := s.plane.keys.AdminKubeconfig("https://127.0.0.1:" + strconv.Itoa(l.APIPort))
	if err != nil {
		return fmt.Errorf("make the administrator's kubeconfig: %w", err)
	}
	if err := kubeconfig.Write(l.Kubeconfig()); err != nil {
		return fmt.Errorf("write %s: %w", l.Kubeconfig(), err)
	}
	return os.WriteFile(l.advertiseFile(), []byte("https://"+s.plane.address()+"\n"), 0o644)
}

// leaseTTL is how long a leader's key outlives it: another server takes over after that.
const leaseTTL = 15 * time.Second

func (s *server) runControllers(ctx context.Context) error {
	log := s.opts.Logger.With("component", "controllers")
	metrics := controller.NewMetrics()
	if err := s.metrics.Register(metrics); err != nil {
		return fmt.Errorf("register the controllers' metrics: %w", err)
	}
	return controller.Run(ctx, controller.Options{
		Client:  s.plane.controllerClient,
		Elector: controller.StoreElector{Store: s.plane.store, Key: "/clipper/leader/controllers", Identity: s.opts.NodeName, TTL: leaseTTL},
		Metrics: metrics, Registerer: s.metrics,
		Logger: log,
	}, s.plane.controllers())
}

func (s *server) runScheduler(ctx context.Context) error {
	c := s.plane.engine.Client(systemUser("system:kube-scheduler"))
	log := s.opts.Logger.With("component", "scheduler")
	s.plane.engine.Handle("/metrics/resources", scheduler.PodResources(c, log))
	recorder := events.New(events.Config{Client: c, Component: scheduler.DefaultName, Logger: s.opts.Logger})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return recorder.Run(ctx) })
	g.Go(func() error {
		return scheduler.Run(ctx, scheduler.Config{
			Client: c, Events: recorder, Logger: log, Metrics: s.plane.metrics,
		})
	})
	return g.Wait()
}
