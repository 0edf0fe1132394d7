package rbac

import (
	"context"
	"fmt"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"

	"clipper.dev/clipper/internal/client"
)

// The kinds that decide.
var (
	roles               = kind[*rbacv1.Role]("roles")
	clusterRoles        = kind[*rbacv1.ClusterRole]("clusterroles")
	roleBindings        = kind[*rbacv1.RoleBinding]("rolebindings")
	clusterRoleBindings = kind[*rbacv1.ClusterRoleBinding]("clusterrolebindings")
)

func kind[T client.Object](resource string) client.Kind[T] {
	return client.Kind[T]{GVR: rbacv1.SchemeGroupVersion.WithResource(resource)}
}

type objectKey struct{ namespace, name string }

// subjectKey names a subject: namespace is a service account's.
type subjectKey struct{ kind, namespace, name string }

// binding is a RoleBinding, or a ClusterRoleBinding (whose namespace is "").
type binding struct {
	objectKey
	ref      rbacv1.RoleRef
	subjects []rbacv1.Subject
}

func (b *binding) keys() []subjectKey {
	out := make([]subjectKey, len(b.subjects))
	for i, s := range b.subjects {
		out[i] = subjectKey{kind: s.Kind, name: s.Name}
		if s.Kind == rbacv1.ServiceAccountKind {
			out[i].namespace = s.Namespace
			if s.Namespace == "" {
				out[i].namespace = b.namespace
			}
		}
	}
	return out
}

// index holds the compiled roles, and bindings by subject.
type index struct {
	mu       sync.RWMutex
	changed  chan struct{}           // closed and replaced at each change
	roles    map[objectKey][]rule    // of Roles and, with namespace "", ClusterRoles
	bindings map[objectKey]*binding  // likewise
	subjects map[string]subjectIndex // by namespace of the binding; "" is the cluster
}

type subjectIndex map[subjectKey][]*binding

func newIndex() *index {
	return &index{
		changed:  make(chan struct{}),
		roles:    map[objectKey][]rule{},
		bindings: map[objectKey]*binding{},
		subjects: map[string]subjectIndex{},
	}
}

func (x *index) setRole(k objectKey, rules []rbacv1.PolicyRule) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.roles[k] = compile(rules)
	x.tell()
}

func (x *index) dropRole(k objectKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.roles, k)
	x.tell()
}

func (x *index) setBinding(b *binding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unbind(b.objectKey)
	x.bindings[b.objectKey] = b
	in := x.subjects[b.namespace]
	if in == nil {
		in = subjectIndex{}
		x.subjects[b.namespace] = in
	}
	for _, s := range b.keys() {
		in[s] = append(in[s], b)
	}
	x.tell()
}

func (x *index) dropBinding(k objectKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unbind(k)
	x.tell()
}

// unbind takes a binding out of the lists of its subjects; the caller holds mu.
func (x *index) unbind(k objectKey) {
	old := x.bindings[k]
	if old == nil {
		return
	}
	delete(x.bindings, k)
	in := x.subjects[k.namespace]
	for _, s := range old.keys() {
		var rest []*binding
		for _, b := range in[s] {
			if b != old {
				rest = append(rest, b)
			}
		}
		in[s] = rest
		if len(rest) == 0 {
			delete(in, s)
		}
	}
	if len(in) == 0 {
		delete(x.subjects, k.namespace)
	}
}

// wait blocks until the index is as done, which is called with it held, wants it.
func (x *index) wait(ctx context.Context, done func() bool) error {
	for {
		x.mu.RLock()
		ok, changed := done(), x.changed
		x.mu.RUnlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (x *index) tell() {
	close(x.changed)
	x.changed = make(chan struct{})
}

// follow keeps one kind in the index: at once what is there now, then every change until ctx ends.
func follow[T client.Object](ctx context.Context, c client.Client, k client.Kind[T], wg *sync.WaitGroup, set func(T), drop func(objectKey)) (client.TypedView[T], error) {
	view, err := k.View(ctx, c, client.Selection{})
	if err != nil {
		return view, fmt.Errorf("view %s: %w", k.GVR.Resource, err)
	}
	if err := view.View.WaitFor(ctx, 0); err != nil {
		return view, fmt.Errorf("load %s: %w", k.GVR.Resource, err)
	}
	first := view.List("", nil)
	for _, o := range first {
		set(o)
	}
	wg.Go(func() {
		_ = view.Subscribe(ctx, func(old, now T) {
			for _, o := range first { // what went away before this subscription began
				if _, ok := view.Get(o.GetNamespace(), o.GetName()); !ok {
					drop(objectKey{o.GetNamespace(), o.GetName()})
				}
			}
			first = nil
			if client.Object(now) == client.Object(*new(T)) {
				drop(objectKey{old.GetNamespace(), old.GetName()})
				return
			}
			set(now)
		})
	})
	return view, nil
}
