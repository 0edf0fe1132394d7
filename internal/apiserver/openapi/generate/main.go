//go:build generate

// Command generate writes the OpenAPI definitions of all built-in kinds, and the types of field management that follow
// from them, from what openapi-gen has made of the Go types. Run it with go generate in the package openapi.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationv1beta1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	managed "clipper.dev/clipper/internal/apiserver/managed/schema"
	"clipper.dev/clipper/internal/apiserver/openapi"
	"clipper.dev/clipper/internal/apiserver/openapi/generate/definitions"
)

const gvkExtension = "x-kubernetes-group-version-kind"

func main() {
	log.SetFlags(0)
	kinds := kindsByName()
	if err := writeDefinitions("definitions.json.gz", kinds); err != nil {
		log.Fatal(err)
	}
	if err := writeTypes("../managed/schema/builtin.bin", kinds); err != nil {
		log.Fatal(err)
	}
}

// kindsByName tells of which kinds each definition is.
func kindsByName() map[string][]schema.GroupVersionKind {
	s := scheme.Scheme
	for _, add := range []func(*runtime.Scheme) error{
		admissionv1.AddToScheme, admissionv1beta1.AddToScheme, imagepolicyv1alpha1.AddToScheme,
		apiextensionsv1.AddToScheme, apiextensionsv1beta1.AddToScheme, apiregistrationv1.AddToScheme, apiregistrationv1beta1.AddToScheme,
		metricsv1beta1.AddToScheme,
	} {
		if err := add(s); err != nil {
			log.Fatal(err)
		}
	}
	out := map[string][]schema.GroupVersionKind{}
	for gvk := range s.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		name, err := s.ToOpenAPIDefinitionName(gvk)
		if err != nil {
			log.Fatalf("name the definition of %s: %v", gvk, err)
		}
		out[name] = append(out[name], gvk)
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b schema.GroupVersionKind) int {
			return strings.Compare(a.Group+"\x00"+a.Version+"\x00"+a.Kind, b.Group+"\x00"+b.Version+"\x00"+b.Kind)
		})
	}
	return out
}

func extension(kinds []schema.GroupVersionKind) []any {
	var out []any
	for _, k := range kinds {
		out = append(out, map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind})
	}
	return out
}

// writeDefinitions keeps every definition as it is served by v2, except for what v3 alone has.
func writeDefinitions(path string, kinds map[string][]schema.GroupVersionKind) error {
	all := definitions.GetOpenAPIDefinitions(func(name string) spec.Ref {
		return spec.MustCreateRef(openapi.ReferencePrefix + common.EscapeJsonPointer(name))
	})
	out := map[string]openapi.Definition{}
	for name, d := range all {
		if list := kinds[name]; list != nil {
			d.Schema.AddExtension(gvkExtension, extension(list))
		}
		raw, err := json.Marshal(&d.Schema)
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		out[name] = openapi.Definition{Schema: raw, Dependencies: d.Dependencies}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(raw); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	log.Printf("%d definitions, %d bytes, %d compressed", len(out), len(raw), buf.Len())
	return os.WriteFile(path, buf.Bytes(), 0o644)
}

// writeTypes writes the types that field management works with.
func writeTypes(path string, kinds map[string][]schema.GroupVersionKind) error {
	config := &common.OpenAPIV3Config{
		GetDefinitions:    definitions.GetOpenAPIDefinitions,
		GetDefinitionName: func(name string) (string, spec.Extensions) { return name, nil },
	}
	names := []string{}
	for name := range definitions.GetOpenAPIDefinitions(func(string) spec.Ref { return spec.Ref{} }) {
		names = append(names, name)
	}
	schemas, err := builder3.BuildOpenAPIDefinitionsForResources(config, names...)
	if err != nil {
		return fmt.Errorf("build the definitions: %w", err)
	}
	types, err := schemaconv.ToSchemaFromOpenAPI(schemas, false)
	if err != nil {
		return fmt.Errorf("convert the definitions: %w", err)
	}
	byKind := map[schema.GroupVersionKind]string{}
	for name, list := range kinds {
		if schemas[name] == nil || strings.HasPrefix(name, "io.k8s.apimachinery.") {
			continue
		}
		for _, gvk := range list {
			if !strings.HasSuffix(gvk.Kind, "List") {
				byKind[gvk] = name
			}
		}
	}
	raw, err := managed.Encode(types.Types, byKind)
	if err != nil {
		return err
	}
	if _, _, err := managed.Decode(string(raw)); err != nil {
		return fmt.Errorf("read back the types: %w", err)
	}
	log.Printf("%d types of %d kinds, %d bytes", len(types.Types), len(byKind), len(raw))
	return os.WriteFile(path, raw, 0o644)
}
