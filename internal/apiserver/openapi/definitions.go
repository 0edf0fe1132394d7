package openapi

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

//go:generate go run k8s.io/kube-openapi/cmd/openapi-gen@v0.0.0-20260317180543-43fb72c5454a --output-dir generate/definitions --output-pkg clipper.dev/clipper/internal/apiserver/openapi/generate/definitions --output-file zz_generated.go --go-header-file generate/header.txt --report-filename /dev/null k8s.io/api/admissionregistration/v1 k8s.io/api/apps/v1 k8s.io/api/authentication/v1 k8s.io/api/authorization/v1 k8s.io/api/autoscaling/v1 k8s.io/api/autoscaling/v2 k8s.io/api/batch/v1 k8s.io/api/certificates/v1 k8s.io/api/coordination/v1 k8s.io/api/core/v1 k8s.io/api/discovery/v1 k8s.io/api/events/v1 k8s.io/api/flowcontrol/v1 k8s.io/api/networking/v1 k8s.io/api/node/v1 k8s.io/api/policy/v1 k8s.io/api/rbac/v1 k8s.io/api/resource/v1 k8s.io/api/scheduling/v1 k8s.io/api/storage/v1 k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1 k8s.io/apimachinery/pkg/api/resource k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/util/intstr k8s.io/apimachinery/pkg/version k8s.io/kube-aggregator/pkg/apis/apiregistration/v1 k8s.io/metrics/pkg/apis/metrics/v1beta1
//go:generate go run -tags generate ./generate
//go:generate rm -r generate/definitions

// definitionsGzip are the definitions of all built-in kinds: a JSON object of Definitions by name.
//
//go:embed definitions.json.gz
var definitionsGzip []byte

// ReferencePrefix begins a reference from one definition to another, as they are kept.
const ReferencePrefix = "#/definitions/"

// Definition is one type's schema and the names of those that it refers to.
type Definition struct {
	Schema       json.RawMessage `json:"schema"`
	Dependencies []string        `json:"dependencies,omitempty"`
}

// builtInDefinitions unpacks the definitions. Nothing keeps them: they are wanted rarely.
func builtInDefinitions() (map[string]Definition, error) {
	z, err := gzip.NewReader(bytes.NewReader(definitionsGzip))
	if err != nil {
		return nil, fmt.Errorf("unpack the definitions: %w", err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("unpack the definitions: %w", err)
	}
	var out map[string]Definition
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("read the definitions: %w", err)
	}
	return out, nil
}

// closure reads the definitions of some types and of all that they refer to, with references that begin with prefix.
func closure(all map[string]Definition, roots []string, prefix string) (map[string]common.OpenAPIDefinition, error) {
	out := map[string]common.OpenAPIDefinition{}
	for todo := roots; len(todo) > 0; {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, done := out[name]; done {
			continue
		}
		d, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("nothing defines %s", name)
		}
		parsed, err := d.parse(prefix)
		if err != nil {
			return nil, fmt.Errorf("read the definition of %s: %w", name, err)
		}
		out[name] = parsed
		todo = append(todo[:len(todo):len(todo)], d.Dependencies...)
	}
	return out, nil
}

func (d *Definition) parse(prefix string) (common.OpenAPIDefinition, error) {
	out := common.OpenAPIDefinition{Dependencies: d.Dependencies}
	raw := []byte(d.Schema)
	if prefix != ReferencePrefix {
		raw = bytes.ReplaceAll(raw, []byte(`"$ref":"`+ReferencePrefix), []byte(`"$ref":"`+prefix))
	}
	if err := json.Unmarshal(raw, &out.Schema); err != nil {
		return out, err
	}
	// The library looks for the schema that v2 has instead as what it is, not as JSON.
	embedded, ok := out.Schema.Extensions[strings.ToLower(common.ExtensionV2Schema)]
	if !ok {
		return out, nil
	}
	raw, err := json.Marshal(embedded)
	if err != nil {
		return out, err
	}
	var v2 spec.Schema
	if err := json.Unmarshal(raw, &v2); err != nil {
		return out, err
	}
	out.Schema.Extensions[common.ExtensionV2Schema] = v2
	return out, nil
}
