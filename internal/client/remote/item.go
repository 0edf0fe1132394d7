package remote

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
)

// item is one version of an object that a view holds.
type item struct {
	client.Decoded
	fields fieldReader
}

func (i *item) Field(name string) string {
	if v := i.Decoded.Field(name); v != "" {
		return v
	}
	return i.fields.read(i.Object(), name)
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
