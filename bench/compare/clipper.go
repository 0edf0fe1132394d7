package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterName is the measured cluster's: a run disturbs no other.
var clusterName = "bench"

// side is a cluster, or a control plane, that runs.
type side struct {
	name   string
	pids   []int // its processes, as it started
	node   []int // those that a machine has which is but a node
	config *rest.Config
	start  time.Duration         // until it was ready
	find   func() ([]int, error) // all its processes as they are now, those that it starts for pods too
	stop   func() error
}

// startClipper starts a cluster of one node from nothing.
func startClipper(ctx context.Context, o options) (*side, error) { return clipperUp(ctx, o) }

// startClipperServer starts a control plane alone.
func startClipperServer(ctx context.Context, o options) (*side, error) {
	return clipperUp(ctx, o, "--no-node")
}

// startClipperNodes starts a cluster whose second node is an agent.
func startClipperNodes(ctx context.Context, o options) (*side, error) {
	s, err := clipperUp(ctx, o, "--nodes", "2")
	if err != nil {
		return nil, err
	}
	s.node, err = processes(func(args []string) bool {
		if filepath.Base(args[0]) == "clipper-keeper" {
			return slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "/run/clipper-"+clusterName+"/node2/") })
		}
		return filepath.Base(args[0]) == "clipper" && slices.Contains(args, "agent") && slices.Contains(args, clusterName)
	})
	if err == nil && len(s.node) != 2 {
		err = fmt.Errorf("processes %v were found where an agent and its keeper should be", s.node)
	}
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func clipperUp(ctx context.Context, o options, args ...string) (*side, error) {
	purge := func() error {
		out, err := exec.Command(o.clipper, "down", "--purge", "--name", clusterName).CombinedOutput()
		if err != nil {
			return fmt.Errorf("clipper down: %w: %s", err, out)
		}
		return nil
	}
	if err := purge(); err != nil {
		return nil, fmt.Errorf("purge an earlier run: %w", err)
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, o.clipper, append([]string{"up", "--name", clusterName}, args...)...).CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("clipper up: %w: %s", err, out), purge())
	}
	s := &side{name: clipperSide, start: time.Since(began), stop: purge}
	s.config, err = clientcmd.BuildConfigFromFlags("", "/etc/clipper-"+clusterName+"/kubeconfig")
	if err != nil {
		return nil, errors.Join(err, purge())
	}
	s.find = func() ([]int, error) { return clipperProcesses(clusterName) }
	s.pids, err = s.find()
	if err != nil || len(s.pids) == 0 {
		return nil, errors.Join(fmt.Errorf("clipper's processes: %d found", len(s.pids)), err, purge())
	}
	return s, nil
}

// clipperProcesses finds the daemons of a cluster and their keepers.
func clipperProcesses(cluster string) ([]int, error) {
	return processes(func(args []string) bool {
		if filepath.Base(args[0]) == "clipper-keeper" {
			return slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "/run/clipper-"+cluster+"/") })
		}
		return filepath.Base(args[0]) == "clipper" && slices.Contains(args, cluster)
	})
}
