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
	revision, _ := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	return NewDecoded(o, revision), true
}

// Decoded is the Item of an object that was decoded already. It knows no selectable fields but the name's: who embeds it may add more.
type Decoded struct {
	object   Object
	revision int64
}

// NewDecoded makes the item of an object as of a revision. The object is shared from here on.
func NewDecoded(o Object, revision int64) Decoded { return Decoded{o, revision} }

func (d Decoded) Namespace() string               { return d.object.GetNamespace() }
func (d Decoded) Name() string                    { return d.object.GetName() }
func (d Decoded) UID() types.UID                  { return d.object.GetUID() }
func (d Decoded) Labels() labels.Set              { return d.object.GetLabels() }
func (d Decoded) Owners() []metav1.OwnerReference { return d.object.GetOwnerReferences() }
func (d Decoded) Deleting() bool                  { return d.object.GetDeletionTimestamp() != nil }
func (d Decoded) Revision() int64                 { return d.revision }
func (d Decoded) Object() Object                  { return d.object }

// Field returns the value of metadata.name or metadata.namespace, and "" for other fields.
func (d Decoded) Field(name string) string {
	switch name {
	case "metadata.name":
		return d.Name()
	case "metadata.namespace":
		return d.Namespace()
	}
	return ""
}
