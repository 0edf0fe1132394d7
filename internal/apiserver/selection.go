package apiserver

import (
	"cmp"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"clipper.dev/clipper/internal/store"
)

// A choice is which objects of a kind a list, watch or deletecollection is about.
type choice struct {
	namespace string // "" is all
	labels    labels.Selector
	fields    fields.Selector
}

// newChoice reads the selectors of a request.
func newChoice(v *version, namespace, labelSelector, fieldSelector string) (choice, error) {
	c := choice{namespace: namespace, labels: labels.Everything(), fields: fields.Everything()}
	var err error
	if labelSelector != "" {
		if c.labels, err = labels.Parse(labelSelector); err != nil {
			return c, apierrors.NewBadRequest(err.Error())
		}
	}
	if fieldSelector == "" {
		return c, nil
	}
	if c.fields, err = fields.ParseSelector(fieldSelector); err != nil {
		return c, apierrors.NewBadRequest(err.Error())
	}
	c.fields, err = c.fields.Transform(v.fieldLabel)
	if err != nil {
		return c, apierrors.NewBadRequest(err.Error())
	}
	return c, nil
}

// fieldLabel checks that a field may be selected by, and translates this version's name of it.
func (v *version) fieldLabel(label, value string) (string, string, error) {
	if label == "metadata.name" || label == "metadata.namespace" && (v.row.Namespaced || len(v.row.Fields) == 0) {
		return label, value, nil
	}
	if v.row.FieldAliases != nil {
		if field, ok := v.row.FieldAliases[label]; ok {
			return field, value, nil
		}
	} else if _, ok := v.row.Fields[label]; ok {
		return label, value, nil
	}
	if len(v.row.Fields) == 0 {
		return "", "", fmt.Errorf("%q is not a known field selector: only %q, %q", label, "metadata.name", "metadata.namespace")
	}
	return "", "", fmt.Errorf(cmp.Or(v.row.UnknownField, "field label not supported: %s"), label)
}

// everything tells whether no selector narrows the choice.
func (c choice) everything() bool { return c.labels.Empty() && c.fields.Empty() }

// matches judges an object by its record.
func (c choice) matches(r *store.Record) bool {
	return c.labels.Matches(r.Labels) && (c.fields.Empty() || c.fields.Matches((*recordFields)(r)))
}

// prefix is what the keys of the chosen namespace begin with.
func (c choice) prefix(v *version) string {
	if c.namespace == "" || !v.row.Namespaced {
		return ""
	}
	return c.namespace + "/"
}

// name returns the one object that the choice is about, if it names one.
func (c choice) name(v *version) (key string, ok bool) {
	name, ok := c.fields.RequiresExactMatch("metadata.name")
	if !ok || name == "" || strings.Contains(name, "/") {
		return "", false
	}
	if !v.row.Namespaced {
		return name, true
	}
	if c.namespace == "" {
		return "", false
	}
	return c.namespace + "/" + name, true
}

// indexed returns an indexed field that the choice requires to have one value.
func (c choice) indexed(v *version) (index, value string, ok bool) {
	for _, index := range v.row.Indexed {
		if value, ok := c.fields.RequiresExactMatch(index); ok {
			return index, value, true
		}
	}
	return "", "", false
}

// alsoNamed narrows the fields to one name.
func (c choice) alsoNamed(name string) fields.Selector {
	return fields.AndSelectors(c.fields, fields.OneTermEqualSelector("metadata.name", name))
}

// match is the part of the choice that a watch must judge event by event; nil if nothing is left to judge. A watch knows its
// name, and one value of an index, by itself.
func (c choice) match(v *version) func(*store.Record) bool {
	if !c.labels.Empty() {
		return c.matches
	}
	index, _, _ := c.indexed(v)
	for _, r := range c.fields.Requirements() {
		exact := r.Operator == selection.Equals || r.Operator == selection.DoubleEquals
		if !exact || r.Value == "" || r.Field != "metadata.name" && (index == "" || r.Field != index) {
			return c.matches
		}
	}
	if len(c.fields.Requirements()) > 1 {
		return c.matches // the same field may be asked for twice
	}
	return nil
}

// recordFields lets field selectors read a record.
type recordFields store.Record

// Has implements fields.Fields.
func (r *recordFields) Has(field string) bool {
	if field == "metadata.name" || field == "metadata.namespace" {
		return true
	}
	_, ok := r.Fields[field]
	return ok
}

// Get implements fields.Fields.
func (r *recordFields) Get(field string) string {
	switch field {
	case "metadata.name":
		return r.Name
	case "metadata.namespace":
		return r.Namespace
	}
	return r.Fields[field]
}
