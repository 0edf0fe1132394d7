package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"clipper.dev/clipper/internal/client"
)

// Status is what "clipper status" shows.
type Status struct {
	Name      string
	Processes []ProcessStatus
	Problem   string // what keeps the API from answering; "" if it answers
	Server    string
	Nodes     []NodeStatus
	Pods      map[corev1.PodPhase]int
}

// ProcessStatus is one process of the cluster on this machine.
type ProcessStatus struct {
	Role     string
	PID      int // 0: it does not run
	PSSBytes int64
	Started  time.Time
}

// NodeStatus is one node.
type NodeStatus struct {
	Name, Address, Version string
	Ready                  bool
	Problems               []string // conditions that the node should not have, as DiskPressure
	Unschedulable          bool
	Pods                   int
	Age                    time.Duration
}

// StatusOf looks at a cluster. It fails only if there is none on this machine.
func StatusOf(ctx context.Context, l Layout) (*Status, error) {
	if _, err := os.Stat(l.DataDir); err != nil {
		return nil, fmt.Errorf("there is no cluster %s on this machine: start one with \"clipper up\"", l.Name)
	}
	s := &Status{Name: l.Name, Pods: map[corev1.PodPhase]int{}}
	nodes, err := nodesOf(l, 0)
	if err != nil {
		return nil, err
	}
	s.Processes = append(s.Processes, processStatus("server", runningPID(l.PIDFile())))
	for n := 2; n <= nodes; n++ {
		s.Processes = append(s.Processes, processStatus("agent "+NodeName(n), runningPID(l.Node(n).PIDFile())))
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.ask(ctx, l); err != nil {
		s.Problem = err.Error()
	}
	return s, nil
}

func (s *Status) ask(ctx context.Context, l Layout) error {
	c, server, err := adminClient(l)
	if err != nil {
		return err
	}
	s.Server = server
	pods, err := client.Pods.List(ctx, c, "", nil)
	if err != nil {
		return err
	}
	perNode := map[string]int{}
	for _, p := range pods {
		s.Pods[p.Status.Phase]++
		perNode[p.Spec.NodeName]++
	}
	nodes, err := client.Nodes.List(ctx, c, "", nil)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		status := NodeStatus{Name: n.Name, Version: n.Status.NodeInfo.KubeletVersion, Pods: perNode[n.Name], Age: time.Since(n.CreationTimestamp.Time)}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				status.Address = a.Address
			}
		}
		status.Unschedulable = n.Spec.Unschedulable
		for _, condition := range n.Status.Conditions {
			switch {
			case condition.Type == corev1.NodeReady:
				status.Ready = condition.Status == corev1.ConditionTrue
			case condition.Status == corev1.ConditionTrue:
				status.Problems = append(status.Problems, string(condition.Type))
			}
		}
		s.Nodes = append(s.Nodes, status)
	}
	return nil
}

// state says in a word or some how a node is.
func (n *NodeStatus) state() string {
	words := []string{"NotReady"}
	if n.Ready {
		words[0] = "Ready"
	}
	if n.Unschedulable {
		words = append(words, "SchedulingDisabled")
	}
	return strings.Join(append(words, n.Problems...), ",")
}

// Healthy tells whether everything runs and answers.
func (s *Status) Healthy() bool {
	for _, p := range s.Processes {
		if p.PID == 0 {
			return false
		}
	}
	for _, n := range s.Nodes {
		if !n.Ready {
			return false
		}
	}
	return s.Problem == "" && len(s.Nodes) > 0
}

// Print writes the status for people.
func (s *Status) Print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "cluster %s\n\nPROCESS\tPID\tMEMORY\tUP\n", s.Name)
	for _, p := range s.Processes {
		if p.PID == 0 {
			fmt.Fprintf(w, "%s\tnot running\t\t\n", p.Role)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%.0f MB\t%s\n", p.Role, p.PID, float64(p.PSSBytes)/1e6, duration.HumanDuration(time.Since(p.Started)))
	}
	if s.Problem != "" {
		fmt.Fprintf(w, "\nThe API server does not answer: %s\n", s.Problem)
		return
	}
	fmt.Fprintf(w, "\nThe API server answers at %s\n\nNODE\tSTATUS\tADDRESS\tVERSION\tPODS\tAGE\n", s.Server)
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", n.Name, n.state(), n.Address, n.Version, n.Pods, duration.HumanDuration(n.Age))
	}
	fmt.Fprint(w, "\nPods:")
	for _, phase := range []corev1.PodPhase{corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown} {
		if n := s.Pods[phase]; n > 0 {
			fmt.Fprintf(w, " %d %s", n, strings.ToLower(string(phase)))
		}
	}
	if len(s.Pods) == 0 {
		fmt.Fprint(w, " none")
	}
	fmt.Fprintln(w)
}

func processStatus(role string, pid int) ProcessStatus {
	p := ProcessStatus{Role: role, PID: pid}
	if pid == 0 {
		return p
	}
	if info, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
		p.Started = info.ModTime()
	}
	p.PSSBytes, _ = pssBytes(pid)
	return p
}

// pssBytes returns a process' proportional share of memory.
func pssBytes(pid int) (int64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no Pss for process %d", pid)
}
