package apiextensions

import (
	"encoding/json"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// definitionWith is a sound definition but for the schema of its spec.
func definitionWith(t *testing.T, spec string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	text := `{"metadata":{"name":"foos.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"foos","kind":"Foo"},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":` + spec + `}}}}]}}`
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal([]byte(text), d); err != nil {
		t.Fatal(err)
	}
	defaultDefinition(d)
	prepareDefinition(d)
	return d
}

func TestSchemasAreCheckedAsUpstreamDoes(t *testing.T) {
	const at = "spec.validation.openAPIV3Schema.properties[spec]"
	for _, c := range []struct{ name, schema, want string }{
		{"a sound one", `{"type":"object","properties":{"n":{"type":"integer","default":1}}}`, ""},
		{"no type", `{"properties":{"n":{"type":"integer"}}}`, at + ".type: Required value: must not be empty for specified object fields"},
		{"a reference", `{"type":"object","$ref":"#/x"}`, at + ".$ref: Forbidden: $ref is not supported"},
		{"unique items", `{"type":"array","items":{"type":"string"},"uniqueItems":true}`, at + ".uniqueItems: Forbidden"},
		{"a map list without keys", `{"type":"array","x-kubernetes-list-type":"map","items":{"type":"object"}}`, "x-kubernetes-list-map-keys: Required value"},
		{"a default of the wrong type", `{"type":"object","properties":{"n":{"type":"integer","default":"x"}}}`, "default: Invalid value"},
		{"a sound rule", `{"type":"object","properties":{"n":{"type":"integer"}},"x-kubernetes-validations":[{"rule":"self.n > 1"}]}`, ""},
		{"a rule that doesn't compile", `{"type":"object","properties":{"n":{"type":"integer"}},"x-kubernetes-validations":[{"rule":"self.m > 1"}]}`, "undefined field 'm'"},
		{
			"a rule that costs too much", `{"type":"array","items":{"type":"array","items":{"type":"string","x-kubernetes-validations":[{"rule":"self.contains('x')"}]}}}`,
			"estimated rule cost exceeds budget by factor of more than 100x",
		},
		{
			"a transition rule where items can't be correlated", `{"type":"array","maxItems":3,"items":{"type":"string","maxLength":3,"x-kubernetes-validations":[{"rule":"self == oldSelf"}]}}`,
			"oldSelf cannot be used on the uncorrelatable portion of the schema within " + at,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var texts []string
			for _, err := range validateDefinition(definitionWith(t, c.schema)) {
				texts = append(texts, err.Error())
			}
			all := strings.Join(texts, "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("got %q, want %q", all, c.want)
			}
		})
	}
}
