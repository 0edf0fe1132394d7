package claim

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// Keys maps a change of a dependent to the key of its controlling owner of a kind (the former one's too), and of an orphan to the
// keys of the owners that could adopt it.
func Keys[T client.Object](kind string, owners client.TypedView[T], selector func(T) *metav1.LabelSelector) func(client.Change) []controller.Key {
	ofOwner := controller.OwnerOf(kind)
	return func(c client.Change) []controller.Key {
		return append(ofOwner(c), Adopters(owners, selector, c.New)...)
	}
}

// Adopters lists the keys of the owners that could adopt an object: none if it is nil, is being deleted, or has a controller. A
// selector that is empty or broken adopts nothing.
func Adopters[T client.Object](owners client.TypedView[T], selector func(T) *metav1.LabelSelector, it client.Item) []controller.Key {
	if it == nil || it.Deleting() || controller.ControllerRef(it.Owners()) != nil {
		return nil
	}
	var keys []controller.Key
	for _, owner := range owners.List(it.Namespace(), nil) {
		if s, err := metav1.LabelSelectorAsSelector(selector(owner)); err == nil && !s.Empty() && s.Matches(it.Labels()) {
			keys = append(keys, controller.Key{Namespace: owner.GetNamespace(), Name: owner.GetName()})
		}
	}
	return keys
}
