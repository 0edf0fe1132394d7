package apiserver

import (
	"maps"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1beta1 "k8s.io/apimachinery/pkg/apis/meta/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
)

// defaultColumns are those of a kind that declares none.
var defaultColumns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
	{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
}

func defaultCells(o api.Object) []any {
	return []any{o.GetName(), o.GetCreationTimestamp().UTC().Format(time.RFC3339)}
}

// includeObject reads what of an object goes with its row.
func includeObject(r *http.Request) (metav1.IncludeObjectPolicy, error) {
	policy := metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject"))
	switch policy {
	case "":
		return metav1.IncludeMetadata, nil
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		return policy, nil
	}
	err := field.Invalid(field.NewPath("includeObject"), policy, "must be 'Metadata', 'Object', 'None', or empty")
	return "", apierrors.NewBadRequest("Unable to convert to Table as requested: " + err.Error())
}

// tableGVK is the type of tables in a version of meta.k8s.io.
func metaGVK(version, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: metav1.GroupName, Version: version, Kind: kind}
}

// newTable prints objects of a version; hubs are the same objects as the row knows them.
func newTable(v *version, m negotiate.Media, include metav1.IncludeObjectPolicy, hubs []api.Object, list *metav1.ListMeta) (*metav1.Table, error) {
	t := &metav1.Table{ColumnDefinitions: v.columns(), Rows: make([]metav1.TableRow, 0, len(hubs))}
	t.SetGroupVersionKind(metaGVK(m.Meta, "Table"))
	if list != nil {
		t.ListMeta = *list
	}
	now := api.PrintOptions{Now: time.Now()}
	for _, hub := range hubs {
		row := metav1.TableRow{Cells: v.cells(hub, now)}
		if v.row.RowConditions != nil {
			row.Conditions = v.row.RowConditions(hub)
		}
		object, err := rowObject(v, m, include, hub)
		if err != nil {
			return nil, err
		}
		row.Object.Object = object
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

func (v *version) columns() []metav1.TableColumnDefinition {
	if v.row.Cells == nil {
		return defaultColumns
	}
	return v.row.Columns
}

func (v *version) cells(hub api.Object, p api.PrintOptions) []any {
	if v.row.Cells == nil {
		return defaultCells(hub)
	}
	return v.row.Cells(hub, p)
}

func rowObject(v *version, m negotiate.Media, include metav1.IncludeObjectPolicy, hub api.Object) (runtime.Object, error) {
	switch include {
	case metav1.IncludeNone:
		return nil, nil
	case metav1.IncludeObject:
		o, err := v.fromHub(hub)
		if err != nil {
			return nil, err
		}
		return typed(o, v.gvk), nil
	}
	return v.partialOf(hub, m.Meta), nil
}

// partialOf is an object's metadata alone.
func (v *version) partialOf(o api.Object, version string) *metav1.PartialObjectMetadata {
	p := meta.AsPartialObjectMetadata(o)
	if own := v.row.OwnAnnotation; own != "" && p.Annotations[own] != "" {
		p.Annotations = maps.Clone(p.Annotations)
		delete(p.Annotations, own)
	}
	p.SetGroupVersionKind(metaGVK(version, "PartialObjectMetadata"))
	return p
}

// partialListOf is a list of metadata.
func (v *version) partialListOf(items []api.Object, version string, list metav1.ListMeta) runtime.Object {
	var partial []metav1.PartialObjectMetadata // null in an empty list, as upstream's
	for _, o := range items {
		partial = append(partial, *v.partialOf(o, version))
	}
	if version == "v1beta1" {
		out := &metav1beta1.PartialObjectMetadataList{ListMeta: list, Items: partial}
		out.SetGroupVersionKind(metaGVK(version, "PartialObjectMetadataList"))
		return out
	}
	out := &metav1.PartialObjectMetadataList{ListMeta: list, Items: partial}
	out.SetGroupVersionKind(metaGVK(version, "PartialObjectMetadataList"))
	return out
}

// A tableStream makes the tables of one watch: only the first one has column definitions.
type tableStream struct {
	v       *version
	media   negotiate.Media
	include metav1.IncludeObjectPolicy
	started bool
}

func newTableStream(v *version, m negotiate.Media, r *http.Request) *tableStream {
	if m.Shape != negotiate.Table {
		return nil
	}
	include, err := includeObject(r)
	if err != nil {
		include = metav1.IncludeMetadata
	}
	return &tableStream{v: v, media: m, include: include}
}

// next makes the table of one event's object, given in the stream's version.
func (t *tableStream) next(o api.Object, bookmark bool) (runtime.Object, error) {
	hub, err := t.v.toHub(o)
	if err != nil {
		return nil, err
	}
	if bookmark && t.v.row.Default != nil {
		t.v.row.Default(hub) // an empty object of this stream's own: columns expect defaulted ones
	}
	table, err := newTable(t.v, t.media, t.include, []api.Object{hub}, &metav1.ListMeta{ResourceVersion: o.GetResourceVersion()})
	if err != nil {
		return nil, err
	}
	if bookmark {
		table.Rows[0].Object.Object = t.v.partialOf(hub, t.media.Meta)
	}
	if t.started {
		table.ColumnDefinitions = nil
	}
	t.started = true
	return table, nil
}
