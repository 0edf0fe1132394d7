package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// UpOptions say what cluster to start.
type UpOptions struct {
	Layout Layout
	// Nodes is how many nodes this machine shall be, 1 or more; 0 is as many as there were.
	Nodes int
	// ServerArgs are passed on to the server as they are.
	ServerArgs []string
	// NodeArgs are passed on to the further nodes as they are.
	NodeArgs []string
	// Report is called for each step as it completes, from several goroutines one at a time.
	Report func(Step)
}

// Up starts a cluster in the background and returns when all its nodes are ready. Of one that runs it starts the nodes that don't.
func Up(ctx context.Context, o UpOptions) error {
	l := o.Layout
	if pid := runningPID(l.PIDFile()); pid != 0 {
		if nodes, err := nodesOf(l, 0); err == nil && lacksNode(l, nodes) {
			return startNodes(ctx, o, nodes)
		}
		return fmt.Errorf("cluster %s runs already (process %d): see \"clipper status --name %[1]s\", or stop it with \"clipper down --name %[1]s\"", l.Name, pid)
	}
	if err := Check(l); err != nil {
		return err
	}
	nodes, err := nodesOf(l, o.Nodes)
	if err != nil {
		return err
	}
	fresh, err := isEmpty(l.DataDir)
	if err != nil {
		return err
	}
	if err := startAll(ctx, o, nodes); err != nil {
		if fresh {
			// A cluster that never came to be leaves nothing behind. One that was there before keeps its data, and its containers run on.
			return errors.Join(err, Down(context.WithoutCancel(ctx), l, true))
		}
		return err
	}
	return nil
}

// startAll starts the server and the further nodes.
func startAll(ctx context.Context, o UpOptions, nodes int) error {
	l := o.Layout
	args := append([]string{"server", "--name", l.Name}, o.ServerArgs...)
	if nodes > 1 {
		if err := ensureNodeBridge(l); err != nil {
			return err
		}
		args = append(args, "--node-ip", l.NodeIP(1).String())
	}
	if err := (daemon{args: args, logFile: l.LogFile()}).start(ctx, o.Report); err != nil {
		return err
	}
	return startNodes(ctx, o, nodes)
}

// lacksNode tells whether a further node of this machine does not run.
func lacksNode(l Layout, nodes int) bool {
	for n := 2; n <= nodes; n++ {
		if runningPID(l.Node(n).PIDFile()) == 0 {
			return true
		}
	}
	return false
}

// nodesOf returns how many nodes to start: as asked, or as many as the data directory knows.
func nodesOf(l Layout, asked int) (int, error) {
	known := 1
	entries, err := os.ReadDir(filepath.Join(l.DataDir, "nodes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(trimNode(e.Name())); err == nil {
			known = max(known, n)
		}
	}
	if asked == 0 {
		return known, nil
	}
	if asked < 0 || asked > maxNodes {
		return 0, fmt.Errorf("--nodes %d: use a number from 1 to %d, which is what one machine has room for", asked, maxNodes)
	}
	return asked, nil
}

// maxNodes is bounded by the addresses of the node network.
const maxNodes = 200

func trimNode(name string) string {
	if len(name) > 4 && name[:4] == "node" {
		return name[4:]
	}
	return ""
}

// startNodes starts the further nodes of this machine, each a process in a network namespace of its own that joins like any machine.
func startNodes(ctx context.Context, o UpOptions, nodes int) error {
	if nodes < 2 {
		return nil
	}
	token, err := CreateToken(ctx, o.Layout, TokenOptions{TTL: time.Hour, Description: "nodes of the server's own machine"})
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(2)
	for n := 2; n <= nodes; n++ {
		g.Go(func() error { return startNode(ctx, o, n, token) })
	}
	return g.Wait()
}

func startNode(ctx context.Context, o UpOptions, n int, token string) error {
	l := o.Layout
	if runningPID(l.Node(n).PIDFile()) != 0 {
		return nil
	}
	if err := ensureNodeNetNS(l, n); err != nil {
		return fmt.Errorf("network of node %d: %w", n, err)
	}
	began := time.Now()
	err := daemon{
		args: append([]string{"agent", "--name", l.Name, "--node", strconv.Itoa(n), "--node-name", NodeName(n),
			"--server", fmt.Sprintf("https://%s:%d", l.NodeIP(1), l.APIPort), "--token", token, "--node-ip", l.NodeIP(n).String()}, o.NodeArgs...),
		logFile: l.Node(n).LogFile(),
		netns:   l.NetNS(n),
	}.start(ctx, func(Step) {})
	if err != nil {
		return fmt.Errorf("node %d: %w", n, err)
	}
	o.Report(Step{Text: fmt.Sprintf("node %s is Ready", NodeName(n)), After: time.Since(began)})
	return nil
}
