package remote

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
)

// item is one version of an object that a view holds.
type item struct {
	object   client.Object
	revision int64
	fields   fieldReader
}

func (i *item) Namespace() string               { return i.object.GetNamespace() }
func (i *item) Name() string                    { return i.object.GetName() }
func (i *item) UID() types.UID                  { return i.object.GetUID() }
func (i *item) Labels() labels.Set              { return i.object.GetLabels() }
func (i *item) Owners() []metav1.OwnerReference { return i.object.GetOwnerReferences() }
func (i *item) Deleting() bool                  { return i.object.GetDeletionTimestamp() != nil }
func (i *item) Revision() int64                 { return i.revision }
func (i *item) Object() client.Object           { return i.object }

func (i *item) Field(name string) string {
	switch name {
	case "metadata.name":
		return i.Name()
	case "metadata.namespace":
		return i.Namespace()
	}
	return i.fields.read(i.object, name)
}

// fieldReader evaluates the selectable fields of a kind by its row, if this process has it.
type fieldReader struct {
	row     *api.Resource
	version *api.Version
}

var rowOf = sync.OnceValue(func() map[schema.GroupResource]*api.Resource {
	rows := map[schema.GroupResource]*api.Resource{}
	for _, r := range api.Registered() {
		rows[schema.GroupResource{Group: r.Group, Resource: r.Name}] = r
	}
	return rows
})

func fieldsOf(gvr schema.GroupVersionResource) fieldReader {
	row := rowOf()[gvr.GroupResource()]
	if row == nil {
		return fieldReader{}
	}
	for i := range row.Versions {
		if row.Versions[i].Version == gvr.Version {
			return fieldReader{row, &row.Versions[i]}
		}
	}
	return fieldReader{}
}

func (f fieldReader) read(obj client.Object, name string) string {
	if f.row == nil {
		return ""
	}
	value := f.row.Fields[name]
	if value == nil {
		return ""
	}
	if f.version.ToHub != nil {
		hub, err := f.version.ToHub(obj)
		if err != nil {
			return ""
		}
		obj = hub
	}
	return value(obj)
}
