package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// RunAgent runs a node that joins a cluster, until ctx ends. Containers run on.
func RunAgent(ctx context.Context, o AgentOptions) error {
	if o.Node > 0 {
		o.Layout = o.Layout.Node(o.Node)
	}
	l := o.Layout
	if !strings.HasPrefix(o.Server, "https://") {
		return fmt.Errorf("--server %q: name the server to join as https://host:port", o.Server)
	}
	if err := Check(l); err != nil {
		return err
	}
	if err := claim(l); err != nil {
		return err
	}
	held, err := lockPIDFile(l.PIDFile())
	if errors.Is(err, errRunning) {
		return fmt.Errorf("the agent of cluster %s runs already (process %d)", l.Name, runningPID(l.PIDFile()))
	}
	if err != nil {
		return err
	}
	defer held.file.Close()
	ip, err := o.complete(&o.Layout, max(o.Node, 1))
	if err != nil {
		return err
	}
	l = o.Layout
	credentials, err := openCredentials(ctx, &o, ip)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	c, err := credentials.connect(metrics, o.Logger)
	if err != nil {
		return err
	}
	n, err := openNode(l, &o.NodeOptions, ip, o.Keeper, metrics, o.Logger)
	if err != nil {
		return err
	}
	defer c.Wait()
	parent := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.serveRuntime(ctx) })
	k, err := n.openKubelet(c, kubeletIdentity{getCertificate: credentials.serving.GetCertificate, clientCA: credentials.roots})
	if err != nil {
		return err
	}
	g.Go(func() error { return credentials.run(ctx, c) })
	g.Go(func() error { returnMemory(ctx, func() {}, o.Logger); return nil })
	g.Go(func() error { return n.run(ctx, c) })
	g.Go(func() error { return k.Run(ctx) })
	g.Go(func() error {
		if err := n.importDemo(ctx); err != nil {
			return err
		}
		return readyOnce(ctx, c, o.NodeName, o.Progress.Ready)
	})
	return ignoreEnd(parent, g.Wait())
}
