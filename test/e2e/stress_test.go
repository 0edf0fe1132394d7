package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"clipper.dev/clipper/internal/cluster"
)

var (
	stress     = flag.Int("stress", 32, "how many pods start and stop while Clipper is killed at random")
	stressSeed = flag.Uint64("stress-seed", 0, "what the random pods and kills follow from (default: the time)")
)

// A kind of pod that is started and stopped under stress: its spec, and what must be true of its status when it has reached its end.
type stressKind struct {
	name string
	spec string
	// right tells whether the pod has come to its end, and what of it is wrong.
	right func(*corev1.Pod) (bool, error)
}

const stressVolumes = `, volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}, {name: about, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]`

var stressKinds = []stressKind{
	{"succeeds", `{restartPolicy: Never, containers: [{name: c, image: "clipper.dev/demo:v1", args: [exit, "0", 300ms]}]}`, endsWith(0, "Completed")},
	{"fails", `{restartPolicy: Never, containers: [{name: c, image: "clipper.dev/demo:v1", args: [exit, "41", 100ms]}]}`, endsWith(41, "Error")},
	{"eats", `{restartPolicy: Never, containers: [{name: c, image: "clipper.dev/demo:v1", args: [eat, "120"], resources: {limits: {memory: 40Mi}}}]}`, endsWith(137, "OOMKilled")},
	{"retries", `{restartPolicy: OnFailure, containers: [{name: c, image: "clipper.dev/demo:v1", args: [try, /disk/tries, "2"], volumeMounts: [{name: disk, mountPath: /disk}]}]` + stressVolumes + `}`, counted},
	{"runs", `{terminationGracePeriodSeconds: 1, containers: [
		{name: c, image: "clipper.dev/demo:v1", args: [lines, 20ms], volumeMounts: [{name: memory, mountPath: /memory}, {name: disk, mountPath: /disk, subPath: a/b}, {name: about, mountPath: /about}]},
		{name: d, image: "clipper.dev/demo:v1", args: [sleep, 1h]}]` + stressVolumes + `}`, runs},
	{"deaf", `{terminationGracePeriodSeconds: 1, shareProcessNamespace: true, containers: [{name: c, image: "clipper.dev/demo:v1", args: [eat, "1"]}]}`, runs},
	{"begins", `{terminationGracePeriodSeconds: 1, initContainers: [{name: i, image: "clipper.dev/demo:v1", args: [exit, "0", 50ms]}, {name: side, image: "clipper.dev/demo:v1", args: [sleep, 1h], restartPolicy: Always}],
		containers: [{name: c, image: "clipper.dev/demo:v1", args: [sleep, 1h]}]}`, runs},
	{"leaves_at_once", `{terminationGracePeriodSeconds: 1, containers: [{name: c, image: "clipper.dev/demo:v1", args: [sleep, 1h], volumeMounts: [{name: memory, mountPath: /memory}]}]` + stressVolumes + `}`,
		func(*corev1.Pod) (bool, error) { return true, nil }},
}

// endsWith expects the only container to end once, by a code.
func endsWith(code int32, reason string) func(*corev1.Pod) (bool, error) {
	return func(p *corev1.Pod) (bool, error) {
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			return false, nil
		}
		c := p.Status.ContainerStatuses[0]
		end := c.State.Terminated
		if end == nil || end.ExitCode != code || end.Reason != reason || ranBefore(&c) {
			return true, fmt.Errorf("it should have ended by %d %s at the first start: %+v", code, reason, c)
		}
		return true, timesRight(p, end)
	}
}

// ranBefore tells whether a container has run more than once. One that was made, and not started when the kill came, counts as a restart in Kubernetes too.
func ranBefore(c *corev1.ContainerStatus) bool {
	last := c.LastTerminationState.Terminated
	return c.RestartCount > 1 || last != nil && !last.StartedAt.IsZero() && last.Reason != "ContainerStatusUnknown"
}

// timesRight expects a container's start after its pod's, its end not before its start nor in the future.
func timesRight(p *corev1.Pod, end *corev1.ContainerStateTerminated) error {
	second := time.Second // times in the API have no fractions
	if p.Status.StartTime == nil || end.StartedAt.Add(second).Before(p.Status.StartTime.Time) || end.FinishedAt.Before(&end.StartedAt) || end.FinishedAt.After(time.Now().Add(second)) {
		return fmt.Errorf("the pod started at %v, its container at %v, and ended at %v", p.Status.StartTime, end.StartedAt, end.FinishedAt)
	}
	return nil
}

// counted expects that the restarts are as many as the program itself has counted. A start that a kill cut off before the program ran may count too.
func counted(p *corev1.Pod) (bool, error) {
	if p.Status.Phase == corev1.PodFailed {
		return true, errors.New("it has failed")
	}
	if p.Status.Phase != corev1.PodSucceeded {
		return false, nil
	}
	c := p.Status.ContainerStatuses[0]
	end := c.State.Terminated
	if end == nil || end.ExitCode != 0 || end.Message != "2" || c.RestartCount < 1 || c.RestartCount > 2 {
		return true, fmt.Errorf("it should have ended well at the second start: %+v, %d restarts", end, c.RestartCount)
	}
	return true, timesRight(p, end)
}

// runs expects every container to run, started once.
func runs(p *corev1.Pod) (bool, error) {
	if p.Status.Phase != corev1.PodRunning {
		return p.Status.Phase != corev1.PodPending, fmt.Errorf("it is %s", p.Status.Phase)
	}
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if ranBefore(&c) {
			return true, fmt.Errorf("it ran before: %+v", c)
		}
		if c.Name != "i" && c.State.Running == nil {
			return false, nil
		}
	}
	return true, nil
}

// stressRun is a run of random pods.
type stressRun struct {
	*testing.T
	client *kubernetes.Clientset
	ns     string
	nodes  []string
	done   atomic.Int64
	errs   chan error
}

// TestStress starts and stops random pods while server and agent are killed at random. Every status must be right, and nothing may be left.
func TestStress(t *testing.T) {
	builtInOnly(t) // containerd gives up the calls of a kubelet that is killed, and ends what they began
	l, err := cluster.NewLayout(clusterName)
	if err != nil {
		t.Fatal(err)
	}
	seed := *stressSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-stress-seed=%d", seed)
	ns := namespace(t)
	r := &stressRun{T: t, client: clientset(t), ns: ns, nodes: strings.Fields(kubectl(t, "get", "nodes", "-o", `jsonpath={.items[*].metadata.name}`)), errs: make(chan error, *stress)}
	// What the first pod of a node makes once stays.
	for _, node := range r.nodes {
		for i, kind := range []string{"eats", "retries"} { // of the one class and the other
			at := slices.IndexFunc(stressKinds, func(k stressKind) bool { return k.name == kind })
			if err := r.live(t.Context(), rand.New(rand.NewPCG(seed, 0)), stressKinds[at], fmt.Sprintf("first-%d", i), node); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, err := settled(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience(time.Duration(*stress)*5*time.Second+2*time.Minute))
	defer cancel()
	kills := r.churn(ctx, seed, l)
	for err := range r.errs {
		t.Error(err)
	}
	t.Logf("%d pods came and went, %d kills", r.done.Load(), kills)
	if _, err := settled(l, before); err != nil {
		t.Errorf("left behind: %v", err)
	}
}

// churn lets the pods live, and kills daemons meanwhile; it returns how many kills there were.
func (r *stressRun) churn(ctx context.Context, seed uint64, l cluster.Layout) int {
	const atOnce = 12
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := range numbers {
				random := rand.New(rand.NewPCG(seed, uint64(100+i)))
				kind := stressKinds[random.IntN(len(stressKinds))]
				name := fmt.Sprintf("%s-%d", strings.ReplaceAll(kind.name, "_", "-"), i)
				if err := r.live(ctx, random, kind, name, r.nodes[random.IntN(len(r.nodes))]); err != nil {
					r.errs <- fmt.Errorf("%s: %w", name, err)
				}
				r.done.Add(1)
			}
		})
	}
	go func() {
		defer close(numbers)
		for i := range *stress {
			numbers <- i
		}
	}()
	finished := make(chan struct{})
	go func() {
		workers.Wait()
		close(r.errs)
		close(finished)
	}()
	return r.killAtRandom(rand.New(rand.NewPCG(seed, 1)), l, finished)
}

// killAtRandom kills the server or an agent every few seconds, and starts it again.
func (r *stressRun) killAtRandom(random *rand.Rand, l cluster.Layout, finished <-chan struct{}) int {
	for kills := 0; ; kills++ {
		select {
		case <-finished:
			return kills
		case <-time.After(time.Duration(500+random.IntN(3000)) * time.Millisecond):
		}
		pidFile := l.PIDFile()
		if random.IntN(3) == 0 && len(r.nodes) > 1 {
			pidFile = strings.Replace(pidFile, l.RunDir, l.RunDir+"/node2", 1)
		}
		killDaemon(r.T, pidFile)
		if out, err := program("up"); err != nil {
			r.Errorf("clipper up: %v\n%s", err, out)
		}
	}
}

// live makes a pod, waits until it has come to its end or runs, and deletes it.
func (r *stressRun) live(ctx context.Context, random *rand.Rand, kind stressKind, name, node string) error {
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal([]byte("{spec: "+strings.ReplaceAll(kind.spec, "\t", " ")+"}"), pod); err != nil {
		return err
	}
	pod.Name, pod.Spec.NodeName = name, node
	pods := r.client.CoreV1().Pods(r.ns)
	err := insist(ctx, func() error {
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // by a call whose answer was cut off
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	seen := insist(ctx, func() error {
		p, err := pods.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		end, err := kind.right(p)
		if end && err != nil {
			return &verdict{err}
		}
		if !end {
			return fmt.Errorf("it is %s: %+v", p.Status.Phase, p.Status.ContainerStatuses)
		}
		return nil
	})
	grace := int64(random.IntN(2))
	err = insist(ctx, func() error {
		err := pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
		if err == nil || apierrors.IsNotFound(err) {
			_, err = pods.Get(ctx, name, metav1.GetOptions{})
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is still there"), err)
	})
	return errors.Join(seen, err)
}

// verdict is an error that trying again does not mend.
type verdict struct{ error }

// insist tries until it works: the server is away at times.
func insist(ctx context.Context, do func() error) error {
	end := time.Now().Add(90 * time.Second)
	for {
		err := do()
		var final *verdict
		if err == nil || errors.As(err, &final) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// settled returns what the cluster holds, once that is no more than it was before.
func settled(l cluster.Layout, before holdings) (holdings, error) {
	end := time.Now().Add(30 * time.Second)
	for {
		now, err := heldBy(l)
		if err == nil && before != nil {
			err = now.beyond(before)
		}
		if err == nil || time.Now().After(end) {
			return now, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}
