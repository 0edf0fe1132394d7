package daemonset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/claim"
	"clipper.dev/clipper/internal/controller/history"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

// Bounds of the time that a failed pod stays before it is replaced.
const (
	minBackoff = time.Second
	maxBackoff = 15 * time.Minute
)

type reconciler struct {
	client    client.Client
	events    *events.Recorder
	control   podcontrol.Control
	sets      client.TypedView[*appsv1.DaemonSet]
	pods      client.TypedView[*corev1.Pod]
	nodes     client.TypedView[*corev1.Node]
	revisions client.TypedView[*appsv1.ControllerRevision]

	mu       sync.Mutex
	failures map[failure]*backoff
}

// failure names a node on which a set's pods fail.
type failure struct {
	set  types.UID
	node string
}

type backoff struct {
	delay time.Duration
	last  time.Time
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	recorder := env.Events("daemonset-controller")
	r := &reconciler{client: env.Client, events: recorder, control: podcontrol.Control{Client: env.Client, Events: recorder}, failures: map[failure]*backoff{}}
	if err := client.Open(ctx, env.Client,
		client.DaemonSets.Into(&r.sets), client.Pods.Into(&r.pods), client.Nodes.Into(&r.nodes),
		client.ControllerRevisions.Into(&r.revisions),
	); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "daemonset",
		Inputs: []controller.Input{
			{View: r.sets.View, Keys: controller.Self},
			{View: r.pods.View, Keys: claim.Keys(gvk.Kind, r.sets, selectorOf)},
			{View: r.nodes.View, Keys: r.ofNode},
			{View: r.revisions.View, Keys: controller.OwnerOf(gvk.Kind)},
		},
		Outputs:   []string{"pods", "apps/controllerrevisions", "apps/daemonsets/status"},
		Reconcile: r.reconcile,
	}, nil
}

func selectorOf(ds *appsv1.DaemonSet) *metav1.LabelSelector { return ds.Spec.Selector }

// ofNode maps a node that came, went or changed in what decides who runs there to all sets.
func (r *reconciler) ofNode(c client.Change) []controller.Key {
	if c.Old != nil && c.New != nil {
		old, now := c.Old.Object().(*corev1.Node), c.New.Object().(*corev1.Node)
		if maps.Equal(old.Labels, now.Labels) && apiequality.Semantic.DeepEqual(old.Spec.Taints, now.Spec.Taints) && old.Spec.Unschedulable == now.Spec.Unschedulable {
			return nil
		}
	}
	var keys []controller.Key
	for _, it := range r.sets.View.Items("", nil) {
		keys = append(keys, controller.Key{Namespace: it.Namespace(), Name: it.Name()})
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	ds, ok := r.sets.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return controller.Again{}, nil // validation lets no such selector in
	}
	if selector.Empty() {
		r.events.Event(ds, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return controller.Again{}, nil
	}
	past := &history.Owner{Client: r.client, Object: ds, Kind: gvk, Resource: client.DaemonSets.GVR, Selector: selector, View: r.revisions, Name: revisionName(ds)}
	list, err := past.List(ctx)
	if err != nil {
		return controller.Again{}, err
	}
	current, collisions, err := past.Ensure(ctx, list, &ds.Spec.Template, ds.Status.CollisionCount)
	if err != nil {
		return controller.Again{}, fmt.Errorf("keep the revision: %w", err)
	}
	pods, err := r.own(ctx, ds, selector)
	if err != nil {
		return controller.Again{}, err
	}
	s := state{ds: ds, nodes: r.nodes.List("", nil), pods: pods, hash: current.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], now: time.Now(),
		backoff: func(node string) time.Duration { return r.backoff(failure{ds.UID, node}, time.Now()) }}
	p := makePlan(s)
	acted := r.apply(ctx, ds, &p, s.hash)
	if status := makeStatus(s, collisions); !apiequality.Semantic.DeepEqual(ds.Status, status) {
		next := ds.DeepCopy()
		next.Status = status
		if _, err := client.DaemonSets.UpdateStatus(ctx, r.client, next); err != nil {
			return controller.Again{}, errors.Join(acted, err)
		}
	}
	if acted != nil {
		return controller.Again{}, acted
	}
	return controller.Again{After: p.again}, r.trim(ctx, past, ds, list, pods, current)
}

// revisionName names a revision by the hash of its template, as the pods' labels do.
func revisionName(ds *appsv1.DaemonSet) func([]byte, *int32) (string, string, string) {
	return func(_ []byte, collisions *int32) (string, string, string) {
		h := fnv.New32a()
		fmt.Fprintf(h, "%v", dump.ForHash(ds.Spec.Template))
		if collisions != nil {
			h.Write(binary.LittleEndian.AppendUint64(nil, uint64(*collisions)))
		}
		hash := rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
		return history.Name(ds.Name, hash), appsv1.DefaultDaemonSetUniqueLabelKey, hash
	}
}

func (r *reconciler) own(ctx context.Context, ds *appsv1.DaemonSet, selector labels.Selector) ([]*corev1.Pod, error) {
	c := claim.Claimer[*corev1.Pod]{Client: r.client, Kind: client.Pods, Owner: ds, OwnerKind: gvk, OwnerGVR: client.DaemonSets.GVR, Selector: selector}
	return c.Claim(ctx, c.Candidates(r.pods))
}

func (r *reconciler) apply(ctx context.Context, ds *appsv1.DaemonSet, p *plan, hash string) error {
	for _, pod := range p.failed {
		r.note(failure{ds.UID, nodeOf(pod)}, time.Now())
		r.events.Eventf(ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", pod.Namespace, pod.Name, nodeOf(pod))
	}
	for _, pod := range p.ended {
		r.events.Eventf(ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", pod.Namespace, pod.Name, nodeOf(pod))
	}
	_, err := podcontrol.SlowStart(len(p.create), func(i int) error {
		_, err := r.control.Create(ctx, ds, newPod(ds, p.create[i], hash))
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		return err
	})
	return errors.Join(err, r.control.DeleteAll(ctx, ds, p.delete))
}

// backoff returns how long a node's failed pod must stay.
func (r *reconciler) backoff(f failure, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.failures[f]
	if b == nil {
		return 0
	}
	if now.Sub(b.last) > 2*maxBackoff {
		delete(r.failures, f)
		return 0
	}
	return max(b.last.Add(b.delay).Sub(now), 0)
}

// note doubles a node's backoff.
func (r *reconciler) note(f failure, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, b := range r.failures {
		if now.Sub(b.last) > 2*maxBackoff {
			delete(r.failures, key)
		}
	}
	b := r.failures[f]
	if b == nil {
		r.failures[f] = &backoff{minBackoff, now}
		return
	}
	b.delay, b.last = min(2*b.delay, maxBackoff), now
}

// trim removes revisions that no pod has and that are too many.
func (r *reconciler) trim(ctx context.Context, past *history.Owner, ds *appsv1.DaemonSet, list []*appsv1.ControllerRevision, pods []*corev1.Pod, current *appsv1.ControllerRevision) error {
	if ds.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	used := map[string]bool{current.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]: true}
	for _, pod := range pods {
		used[pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
	}
	return past.Trim(ctx, list, *ds.Spec.RevisionHistoryLimit, func(rev *appsv1.ControllerRevision) bool {
		return used[rev.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]]
	})
}
