package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/cgroups"
	"clipper.dev/clipper/internal/kubelet/criconfig"
)

// meter takes readings when somebody asks; between questions it does nothing.
type meter struct {
	cfg Config

	mu        sync.Mutex
	last      map[string]point // by what was measured
	noSandbox bool             // the runtime tells nothing of sandboxes
}

// point is a CPU counter at a time, for rates.
type point struct {
	at  time.Time
	cpu uint64
}

// reading is one look at everything.
type reading struct {
	at   time.Time
	node cgroups.Usage
	all  *cgroups.Usage // of all pods together
	pods []podReading
	// network of the node, by interface.
	network map[string]traffic
	// pressure tells that the kernel counts it for groups.
	pressure bool
	// failed tells that not everything could be read.
	failed bool
}

type podReading struct {
	pod        Pod
	usage      cgroups.Usage
	network    *runtimeapi.NetworkUsage
	containers []*runtimeapi.ContainerStats
}

type traffic struct {
	rx, rxErrors, tx, txErrors uint64
}

func newMeter(cfg Config) *meter { return &meter{cfg: cfg, last: map[string]point{}} }

// read takes a reading.
func (m *meter) read(ctx context.Context) reading {
	out := reading{at: time.Now(), pressure: m.cfg.Tree.TellsPressure()}
	var err error
	if out.node, err = m.cfg.Tree.NodeUsage(); err != nil {
		out.failed = true
	}
	if all, err := m.cfg.Tree.PodsUsage(); err == nil {
		out.all = &all
	}
	out.network = readTraffic("/proc/net/dev")
	containers, err := m.containers(ctx)
	if err != nil {
		m.cfg.Logger.Debug("container numbers not read", "error", err)
		out.failed = true
	}
	sandboxes := m.sandboxes(ctx)
	for _, p := range m.cfg.Backend.ListPods() {
		if p.Stopped || p.Observed == nil {
			continue
		}
		one := podReading{pod: p, containers: containers[p.UID], network: sandboxes[p.UID]}
		if one.usage, err = m.cfg.Tree.PodUsage(p.Pod); err != nil {
			continue // it's just being made or taken away
		}
		out.pods = append(out.pods, one)
	}
	return out
}

func (m *meter) containers(ctx context.Context) (map[types.UID][]*runtimeapi.ContainerStats, error) {
	resp, err := m.cfg.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{
		Filter: &runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{criconfig.OwnerLabel: m.cfg.Runtime.Owner()}},
	})
	if err != nil {
		return nil, fmt.Errorf("list container stats: %w", err)
	}
	out := map[types.UID][]*runtimeapi.ContainerStats{}
	for _, s := range resp.Stats {
		if s.GetCpu().GetUsageCoreNanoSeconds() == nil && s.GetMemory() == nil {
			continue // it doesn't run
		}
		uid := types.UID(s.GetAttributes().GetLabels()[criconfig.PodUIDLabel])
		out[uid] = append(out[uid], s)
	}
	return out, nil
}

// sandboxes returns the pods' network numbers where the runtime has them.
func (m *meter) sandboxes(ctx context.Context) map[types.UID]*runtimeapi.NetworkUsage {
	m.mu.Lock()
	skip := m.noSandbox
	m.mu.Unlock()
	if skip {
		return nil
	}
	resp, err := m.cfg.Runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{
		Filter: &runtimeapi.PodSandboxStatsFilter{LabelSelector: map[string]string{criconfig.OwnerLabel: m.cfg.Runtime.Owner()}},
	})
	if status.Code(err) == codes.Unimplemented {
		m.mu.Lock()
		m.noSandbox = true
		m.mu.Unlock()
	}
	out := map[types.UID]*runtimeapi.NetworkUsage{}
	for _, s := range resp.GetStats() {
		out[types.UID(s.GetAttributes().GetMetadata().GetUid())] = s.GetLinux().GetNetwork()
	}
	return out
}

const (
	// rateWindow is the least time between two readings that a rate is made of; staleAfter is when a former reading is too old for one.
	rateWindow = 100 * time.Millisecond
	staleAfter = 2 * time.Minute
)

// readRates takes a reading and the CPU rates, in billionths of a core, since an earlier one; without an earlier one it takes two.
func (m *meter) readRates(ctx context.Context) (reading, map[string]uint64) {
	r := m.read(ctx)
	now := r.counters()
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	if p, ok := last[nodeKey]; !ok || r.at.Sub(p.at) > staleAfter || r.at.Sub(p.at) < rateWindow {
		timer := time.NewTimer(rateWindow)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		last = now
		r = m.read(ctx)
		now = r.counters()
	}
	m.mu.Lock()
	m.last = maps.Clone(now)
	m.mu.Unlock()
	rates := map[string]uint64{}
	for key, p := range now {
		before, ok := last[key]
		if took := p.at.Sub(before.at); ok && took > 0 && p.cpu >= before.cpu {
			rates[key] = uint64(float64(p.cpu-before.cpu) / took.Seconds())
		}
	}
	return r, rates
}

const (
	nodeKey    = "node"
	allPodsKey = "pods"
)

func podKey(p *podReading) string { return "pod " + string(p.pod.UID) }
func containerKey(c *runtimeapi.ContainerStats) string {
	return "container " + c.GetAttributes().GetId()
}

func (r *reading) counters() map[string]point {
	out := map[string]point{nodeKey: {r.at, r.node.CPUNanoseconds}}
	if r.all != nil {
		out[allPodsKey] = point{r.at, r.all.CPUNanoseconds}
	}
	for i := range r.pods {
		p := &r.pods[i]
		out[podKey(p)] = point{r.at, p.usage.CPUNanoseconds}
		for _, c := range p.containers {
			at := r.at
			if ts := c.GetCpu().GetTimestamp(); ts > 0 {
				at = time.Unix(0, ts)
			}
			out[containerKey(c)] = point{at, c.GetCpu().GetUsageCoreNanoSeconds().GetValue()}
		}
	}
	return out
}

// readTraffic reads a file like /proc/net/dev.
func readTraffic(path string) map[string]traffic {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	out := map[string]traffic{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 12 {
			continue
		}
		number := func(i int) uint64 {
			n, _ := strconv.ParseUint(fields[i], 10, 64) // the kernel writes numbers
			return n
		}
		out[strings.TrimSpace(name)] = traffic{number(0), number(2), number(8), number(10)}
	}
	return out
}
