package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// How much is done for each figure, and by how many clients at once.
const (
	writes   = 2000
	reads    = 5000
	lists    = 100
	clients  = 8
	watchers = 1000
	changes  = 300
)

const namespace = "default"

// withClient makes a group of what measures through a client.
func withClient(uncompressed bool, do func(context.Context, *side, *kubernetes.Clientset, *results) error) func(context.Context, options, *side, *results) error {
	return func(ctx context.Context, _ options, s *side, r *results) error {
		c, err := newClient(s.config, uncompressed)
		if err != nil {
			return err
		}
		return do(ctx, s, c, r)
	}
}

func measureObjects(ctx context.Context, o options, s *side, r *results) error {
	c, err := newClient(s.config, true)
	if err != nil {
		return err
	}
	return measureWrites(ctx, s, c, o.objects, r)
}

func measureAllLists(ctx context.Context, _ options, s *side, r *results) error {
	for _, l := range []struct {
		uncompressed bool
		how          string
	}{{false, "with gzip, as client-go asks"}, {true, "without compression"}} {
		c, err := newClient(s.config, l.uncompressed)
		if err != nil {
			return err
		}
		if err := measureLists(ctx, s, c, l.how, r); err != nil {
			return err
		}
	}
	return nil
}

func measureMemory(_ context.Context, o options, s *side, r *results) error {
	memory, err := pss(s.pids)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("memory with %d ConfigMaps (PSS)", o.objects), "%.0f MB", float64(memory)/1e6)
	return nil
}

func newClient(config *rest.Config, uncompressed bool) (*kubernetes.Clientset, error) {
	c := rest.CopyConfig(config)
	c.QPS, c.Burst = -1, 0
	c.ContentType, c.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"
	c.DisableCompression = uncompressed
	return kubernetes.NewForConfig(c)
}

// perOperation does something n times from several clients and returns the servers' CPU for each.
func perOperation(s *side, n int, do func(i int) error) (time.Duration, error) {
	before, err := cpu(s.pids)
	if err != nil {
		return 0, err
	}
	var g errgroup.Group
	for c := range clients {
		g.Go(func() error {
			for i := c; i < n; i += clients {
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	after, err := cpu(s.pids)
	return (after - before) / time.Duration(n), err
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.3f ms", float64(d)/1e6) }

func configMap(i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bench-%05d", i), Labels: map[string]string{"tenth": strconv.Itoa(i % 10), "app": "bench"}},
		Data: map[string]string{
			"config.yaml": strings.Repeat(fmt.Sprintf("server-%d:\n  port: %d\n  path: /srv/data/%x\n", i, 1000+i%5000, i*2654435761), 24)[:900],
		},
	}
}

func measureWrites(ctx context.Context, s *side, c *kubernetes.Clientset, objects int, r *results) error {
	maps := c.CoreV1().ConfigMaps(namespace)
	each, err := perOperation(s, objects, func(i int) error {
		_, err := maps.Create(ctx, configMap(i), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	r.add("CPU for a create (1 KB ConfigMap)", "%s", milliseconds(each))
	each, err = perOperation(s, reads, func(i int) error {
		_, err := maps.Get(ctx, fmt.Sprintf("bench-%05d", i%objects), metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	r.add("CPU for a get", "%s", milliseconds(each))
	each, err = perOperation(s, writes, func(i int) error {
		m := configMap(i % objects)
		m.Data["changed"] = strconv.Itoa(i)
		_, err := maps.Update(ctx, m, metav1.UpdateOptions{})
		return err
	})
	r.add("CPU for an update", "%s", milliseconds(each))
	return err
}

func measureLists(ctx context.Context, s *side, c *kubernetes.Clientset, how string, r *results) error {
	for _, l := range []struct {
		what    string
		options metav1.ListOptions
	}{{"all", metav1.ListOptions{}}, {"a tenth, by label", metav1.ListOptions{LabelSelector: "tenth=3"}}} {
		before, err := cpu(s.pids)
		if err != nil {
			return err
		}
		for range lists {
			if _, err := c.CoreV1().ConfigMaps(namespace).List(ctx, l.options); err != nil {
				return err
			}
		}
		after, err := cpu(s.pids)
		if err != nil {
			return err
		}
		r.add(fmt.Sprintf("CPU for a list of %s, %s", l.what, how), "%s", milliseconds((after-before)/lists))
	}
	return nil
}

// measureWatch has many watchers of one object and changes it.
func measureWatch(ctx context.Context, s *side, c *kubernetes.Clientset, r *results) error {
	each, err := deliveries(ctx, s, c.CoreV1().ConfigMaps(namespace), watchers, changes)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("CPU for a watch delivery (%d watchers)", watchers), "%s", milliseconds(each))
	return nil
}

// deliveries changes an object that is watched, and returns the servers' CPU for each event that a watcher got. A change follows when all
// have seen the one before, so that none is sent together with another, and the last of each watcher's must be the last that was made.
func deliveries(ctx context.Context, s *side, maps typedcorev1.ConfigMapInterface, watchers, changes int) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := configMap(0)
	watched.Name = "watched"
	at, err := maps.Create(ctx, watched, metav1.CreateOptions{})
	if err != nil {
		return 0, err
	}
	seen := make(chan string, watchers)
	var watches errgroup.Group
	for range watchers {
		w, err := maps.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + watched.Name, ResourceVersion: at.ResourceVersion})
		if err != nil {
			return 0, err
		}
		watches.Go(func() error {
			defer w.Stop()
			for range changes {
				e, open := <-w.ResultChan()
				m, ok := e.Object.(*corev1.ConfigMap)
				if !open || !ok {
					cancel()
					return fmt.Errorf("a watch ended early: %v", e.Object)
				}
				seen <- m.ResourceVersion
			}
			return nil
		})
	}
	before, err := cpu(s.pids)
	if err != nil {
		return 0, err
	}
	for i := range changes {
		watched.Data["change"] = strconv.Itoa(i)
		m, err := maps.Update(ctx, watched, metav1.UpdateOptions{})
		if err != nil {
			return 0, err
		}
		if err := await(ctx, seen, watchers, m.ResourceVersion); err != nil {
			cancel()
			return 0, errors.Join(err, watches.Wait())
		}
	}
	after, err := cpu(s.pids)
	return (after - before) / time.Duration(watchers*changes), errors.Join(err, watches.Wait())
}

// await waits until every watcher has seen a version.
func await(ctx context.Context, seen <-chan string, watchers int, version string) error {
	for range watchers {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case v := <-seen:
			if v != version {
				return fmt.Errorf("a watcher was sent version %s when it was to see %s", v, version)
			}
		}
	}
	return nil
}

// cpu is what processes have used of the processor, to the nanosecond: their clocks are read. /proc tells it in hundredths of a second, which
// are a tenth of what a hundred short lists take.
func cpu(pids []int) (time.Duration, error) {
	const (
		processClock = 2 // CPUCLOCK_SCHED of a whole process, clock_getcpuclockid(3)
		pidShift     = 3
	)
	var sum time.Duration
	for _, pid := range pids {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<pidShift|processClock), &t); err != nil {
			return 0, fmt.Errorf("read the clock of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// pss returns the proportional share of memory of processes, in bytes.
func pss(pids []int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					return 0, err
				}
				sum += kb << 10
			}
		}
	}
	return sum, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
