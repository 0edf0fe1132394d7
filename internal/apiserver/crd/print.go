package crd

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/util/jsonpath"

	"clipper.dev/clipper/internal/api"
)

// defaultColumns are printed for versions that declare none.
var defaultColumns = []apiextensionsv1.CustomResourceColumnDefinition{
	{Name: "Age", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], JSONPath: ".metadata.creationTimestamp"},
}

// columns returns the printed columns, the name first.
func (v *versioned) columns() ([]metav1.TableColumnDefinition, func(api.Object, api.PrintOptions) []any) {
	declared := v.spec.AdditionalPrinterColumns
	if len(declared) == 0 {
		declared = defaultColumns
	}
	columns, paths := []metav1.TableColumnDefinition{api.NameColumn}, []string{}
	for _, c := range declared {
		if parse(c.JSONPath) == nil {
			continue
		}
		description := c.Description
		if description == "" {
			description = "Custom resource definition column (in JSONPath format): " + c.JSONPath
		}
		columns = append(columns, metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format, Description: description, Priority: c.Priority})
		paths = append(paths, c.JSONPath)
	}
	return columns, func(o api.Object, p api.PrintOptions) []any {
		cells := []any{o.GetName()}
		u, err := v.of(o)
		for i, path := range paths {
			if err != nil {
				cells = append(cells, nil)
				continue
			}
			cells = append(cells, cell(u, path, columns[i+1].Type, p))
		}
		return cells
	}
}

func parse(path string) *jsonpath.JSONPath {
	out := jsonpath.New("column").AllowMissingKeys(true)
	if err := out.Parse("{" + path + "}"); err != nil {
		return nil
	}
	return out
}

// cell is the value of a column; a JSONPath keeps state while it is evaluated, so each cell has its own.
func cell(u *unstructured.Unstructured, path, typ string, p api.PrintOptions) any {
	expression := parse(path)
	results, err := expression.FindResults(u.Object)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	value := results[0][0].Interface()
	if typ == "string" {
		var out bytes.Buffer
		if err := expression.PrintResults(&out, []reflect.Value{reflect.ValueOf(value)}); err != nil {
			return nil
		}
		return out.String()
	}
	return valueOf(value, typ, p)
}

func valueOf(value any, typ string, p api.PrintOptions) any {
	switch value := value.(type) {
	case int64:
		if typ == "number" {
			return float64(value)
		}
		if typ == "integer" {
			return value
		}
	case float64:
		if typ == "integer" {
			return int64(value)
		}
		if typ == "number" {
			return value
		}
	case bool:
		if typ == "boolean" {
			return value
		}
	case string:
		if typ != "date" {
			return nil
		}
		var at metav1.Time
		if err := at.UnmarshalQueryParameter(value); err != nil {
			return "<invalid>"
		}
		return api.Age(at, p)
	}
	return nil
}

// selectable are the fields that selectors may name.
func (v *versioned) selectable() map[string]func(api.Object) string {
	out := map[string]func(api.Object) string{}
	for _, f := range v.spec.SelectableFields {
		path := f.JSONPath
		out[strings.TrimPrefix(path, ".")] = func(o api.Object) string {
			u, err := v.of(o)
			if err != nil {
				return ""
			}
			results, err := parse(path).FindResults(u.Object)
			if err != nil || len(results) == 0 || len(results[0]) == 0 {
				return ""
			}
			return fmt.Sprint(results[0][0].Interface())
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

var standardFinalizers = []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents, string(corev1.FinalizerKubernetes)}

// finalizerWarnings tell of new finalizers whose names may clash with others'.
func finalizerWarnings(o, old api.Object) (warnings []string) {
	var before []string
	if old != nil {
		before = old.GetFinalizers()
	}
	fresh := slices.Clone(o.GetFinalizers())
	slices.Sort(fresh)
	for _, name := range slices.Compact(fresh) {
		if slices.Contains(before, name) {
			continue
		}
		for _, problem := range validation.IsQualifiedName(name) {
			warnings = append(warnings, fmt.Sprintf("metadata.finalizers: %q: %s", name, problem))
		}
		if strings.Contains(name, "/") || slices.Contains(standardFinalizers, name) {
			continue
		}
		path := ""
		if strings.Contains(name, ".") {
			path = "including a path (/) "
		}
		warnings = append(warnings, fmt.Sprintf("metadata.finalizers: %q: prefer a domain-qualified finalizer name %sto avoid accidental conflicts with other finalizer writers", name, path))
	}
	return warnings
}
