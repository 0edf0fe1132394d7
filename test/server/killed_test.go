package server

import (
	"context"
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// How often the server is killed, while how many write and how many watch.
const (
	kills    = 4
	authors  = 4
	watchers = 6
)

// kept is which objects the test is about.
const kept = "test=killed"

func TestWatchersOfAServerThatIsKilledSeeEveryChangeOnceAndInOrder(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	maps := api.client(t).CoreV1().ConfigMaps("default")
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: kept})
	if err != nil {
		t.Fatal(err)
	}
	var writing, watching sync.WaitGroup
	stop := make(chan struct{})
	last := make([]int, authors)
	for i := range authors {
		writing.Go(func() {
			a := author{maps: api.client(t).CoreV1().ConfigMaps("default"), name: fmt.Sprintf("killed-%d", i)}
			if err := a.write(ctx, stop); err != nil {
				t.Errorf("%s: %v", a.name, err)
			}
			last[i] = a.version
		})
	}
	seen := make([]*observer, watchers)
	for i := range watchers {
		seen[i] = &observer{maps: api.client(t).CoreV1().ConfigMaps("default"), at: list.ResourceVersion, versions: map[string]int{}, there: map[string]bool{}}
		watching.Go(func() {
			if err := seen[i].follow(ctx); err != nil {
				t.Errorf("watcher %d: %v", i, err)
			}
		})
	}
	for range kills {
		time.Sleep(300*time.Millisecond + time.Duration(rand.Int63n(int64(400*time.Millisecond))))
		api.kill()
		if err := api.start(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	writing.Wait()
	// One more object tells the watchers that all has been said.
	if _, err := maps.Create(ctx, labelled("killed-end", 1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	watching.Wait()
	for i, o := range seen {
		for j, version := range last {
			if got := o.versions[fmt.Sprintf("killed-%d", j)]; got != version {
				t.Errorf("watcher %d has seen killed-%d up to %d of %d", i, j, got, version)
			}
		}
	}
	t.Logf("%v changes were made", last)
}

func labelled(name string, version int) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"test": "killed"}}, Data: map[string]string{"version": strconv.Itoa(version)}}
}

// author gives one object one version after another. Now and then it deletes the object and makes it anew.
type author struct {
	maps    corev1client.ConfigMapInterface
	name    string
	version int // that is known to be stored
}

func (a *author) write(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if err := a.next(ctx); err != nil {
			return err
		}
	}
}

// next stores the next version. What became of a request that got no answer is looked up.
func (a *author) next(ctx context.Context) error {
	live, err := a.maps.Get(ctx, a.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = a.maps.Create(ctx, labelled(a.name, a.version+1), metav1.CreateOptions{})
	case err != nil:
		time.Sleep(10 * time.Millisecond) // it's down
		return ctx.Err()
	default:
		stored, err := strconv.Atoi(live.Data["version"])
		if err != nil {
			return err
		}
		if stored != a.version && stored != a.version+1 {
			return fmt.Errorf("version %d is stored after %d was acknowledged", stored, a.version)
		}
		a.version = stored
		if stored%10 == 9 {
			// The next one is made at the next call. One that is repeated finds another object, or none.
			_ = a.maps.Delete(ctx, a.name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &live.UID}})
			return nil
		}
		next := live.DeepCopy()
		next.Data["version"] = strconv.Itoa(stored + 1)
		if _, err := a.maps.Update(ctx, next, metav1.UpdateOptions{}); err == nil {
			a.version++
		}
		return nil
	}
	if err == nil {
		a.version++
	}
	return nil
}

// observer watches, from where it was whenever the watch ends.
type observer struct {
	maps     corev1client.ConfigMapInterface
	at       string
	versions map[string]int
	there    map[string]bool
}

// follow returns when it has seen the end.
func (o *observer) follow(ctx context.Context) error {
	for {
		w, err := o.maps.Watch(ctx, metav1.ListOptions{LabelSelector: kept, ResourceVersion: o.at, AllowWatchBookmarks: true})
		if err != nil {
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || ctx.Err() != nil {
				return fmt.Errorf("watch from %s: %w", o.at, err)
			}
			time.Sleep(10 * time.Millisecond) // it's down
			continue
		}
		end, err := o.take(w.ResultChan())
		w.Stop()
		if end || err != nil {
			return err
		}
	}
}

func (o *observer) take(events <-chan watch.Event) (end bool, err error) {
	for e := range events {
		m, ok := e.Object.(*corev1.ConfigMap)
		if !ok {
			if status, isStatus := e.Object.(*metav1.Status); isStatus && status.Code == 410 {
				return false, fmt.Errorf("from %s: %v", o.at, status.Message)
			}
			return false, nil // the connection broke within an event
		}
		o.at = m.ResourceVersion
		if e.Type == watch.Bookmark {
			continue
		}
		if m.Name == "killed-end" {
			return true, nil
		}
		if err := o.note(e.Type, m); err != nil {
			return false, err
		}
	}
	return false, nil
}

// note holds an event against the former ones of its object.
func (o *observer) note(kind watch.EventType, m *corev1.ConfigMap) error {
	version, err := strconv.Atoi(m.Data["version"])
	if err != nil {
		return err
	}
	was, there := o.versions[m.Name], o.there[m.Name]
	sound := false
	switch kind {
	case watch.Added:
		sound = !there && version == was+1
	case watch.Modified:
		sound = there && version == was+1
	case watch.Deleted:
		sound = there && version == was
	}
	if !sound {
		return fmt.Errorf("%s of %s, version %d, came after version %d (there: %v)", kind, m.Name, version, was, there)
	}
	o.versions[m.Name], o.there[m.Name] = version, kind != watch.Deleted
	return nil
}
