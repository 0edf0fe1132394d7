package fairness

import (
	"net/url"
	"sync"

	"k8s.io/apimachinery/pkg/fields"

	"clipper.dev/clipper/internal/apiserver/request"
)

// watches counts who watches what.
type watches struct {
	mu    sync.Mutex
	count map[watched]int
}

// A watched is a kind, or its objects in a namespace, or one object.
type watched struct{ group, resource, namespace, name string }

// Watch counts a watch until the returned function is called. Watches on the pods of one node don't count: few events concern each.
func (c *Controller) Watch(info *request.Info, query string) (forget func()) {
	if info.Group == "" && info.Resource == "pods" && ofOneNode(query) {
		return func() {}
	}
	w, key := &c.watches, watched{info.Group, info.Resource, info.Namespace, info.Name}
	w.add(key, 1)
	return func() { w.add(key, -1) }
}

func ofOneNode(query string) bool {
	values, err := url.ParseQuery(query)
	if err != nil {
		return false
	}
	selector, err := fields.ParseSelector(values.Get("fieldSelector"))
	if err != nil {
		return false
	}
	node, exact := selector.RequiresExactMatch("spec.nodeName")
	return exact && node != ""
}

func (w *watches) add(key watched, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == nil {
		w.count = map[watched]int{}
	}
	if w.count[key] += n; w.count[key] == 0 {
		delete(w.count, key)
	}
}

// interested counts the watches that see what a write does.
func (w *watches) interested(info *request.Info) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := watched{group: info.Group, resource: info.Resource}
	n := w.count[key]
	if info.Namespace != "" {
		key.namespace = info.Namespace
		n += w.count[key]
	}
	if info.Name != "" {
		key.name = info.Name
		n += w.count[key]
	}
	return n
}
