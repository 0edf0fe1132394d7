package openapi

import (
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kube-openapi/pkg/common"
)

// Parameters that many routes have.
var (
	prettyParam = &parameter{name: "pretty", kind: common.QueryParameterKind, dataType: "string", description: "If 'true', then the output is pretty printed. " +
		"Defaults to 'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget)."}
	namespaceParam = &parameter{name: "namespace", kind: common.PathParameterKind, dataType: "string", required: true,
		description: "object name and auth scope, such as for teams and projects"}
	pathParam = &parameter{name: "path", kind: common.PathParameterKind, dataType: "string", required: true, description: "path to the resource"}
)

func nameParam(kind string) *parameter {
	return &parameter{name: "name", kind: common.PathParameterKind, dataType: "string", required: true, description: "name of the " + kind}
}

// A documented type tells what its fields are for.
type documented interface{ SwaggerDoc() map[string]string }

// optionsParams are the fields of an options type as query parameters.
func optionsParams(options documented, except ...string) []common.Parameter {
	var out []common.Parameter
	docs := options.SwaggerDoc()
	t := reflect.TypeOf(options)
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		dataType := queryType(f.Type)
		if name == "" || dataType == "" || slices.Contains(except, name) {
			continue
		}
		out = append(out, &parameter{name: name, kind: common.QueryParameterKind, dataType: dataType, description: docs[name]})
	}
	return out
}

// queryType is how a Go type is written in a query; "" for times, which upstream leaves out, and all else that has no place there.
func queryType(t reflect.Type) string {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "integer"
	}
	return ""
}

// connectOptions are the options of the streaming subresources, by kind.
var connectOptions = map[string]documented{
	"PodExecOptions":        corev1.PodExecOptions{},
	"PodAttachOptions":      corev1.PodAttachOptions{},
	"PodPortForwardOptions": corev1.PodPortForwardOptions{},
	"PodProxyOptions":       corev1.PodProxyOptions{},
	"ServiceProxyOptions":   corev1.ServiceProxyOptions{},
	"NodeProxyOptions":      corev1.NodeProxyOptions{},
}
