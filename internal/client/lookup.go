package client

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Lookup is View.Get for code that needs metadata alone: it doesn't decode the object if the view can do without.
func Lookup(v View, namespace, name string) (Item, bool) {
	if direct, ok := v.(interface {
		Item(namespace, name string) (Item, bool)
	}); ok {
		return direct.Item(namespace, name)
	}
	o, ok := v.Get(namespace, name)
	if !ok {
		return nil, false
	}
	return decoded{o}, true
}

// decoded is the Item of an object that was decoded already. It knows no selectable fields but the name's.
type decoded struct{ object Object }

func (d decoded) Namespace() string               { return d.object.GetNamespace() }
func (d decoded) Name() string                    { return d.object.GetName() }
func (d decoded) UID() types.UID                  { return d.object.GetUID() }
func (d decoded) Labels() labels.Set              { return d.object.GetLabels() }
func (d decoded) Owners() []metav1.OwnerReference { return d.object.GetOwnerReferences() }
func (d decoded) Deleting() bool                  { return d.object.GetDeletionTimestamp() != nil }
func (d decoded) Object() Object                  { return d.object }

func (d decoded) Revision() int64 {
	n, _ := strconv.ParseInt(d.object.GetResourceVersion(), 10, 64)
	return n
}

func (d decoded) Field(name string) string {
	switch name {
	case "metadata.name":
		return d.Name()
	case "metadata.namespace":
		return d.Namespace()
	}
	return ""
}
