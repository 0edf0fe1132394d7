package apiextensions

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

func TestAnUpdateMayKeepWhatOldReleasesAccepted(t *testing.T) {
	const list = `{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","properties":{"k":{"type":"string"}}}}`
	for _, c := range []struct {
		name, schema string
		preserving   bool // as definitions were that had no structural schema
		refusal      string
	}{
		{"an unknown type", `{"type":"thing"}`, true, `Unsupported value: "thing"`},
		{"a schema that isn't structural", `{"properties":{"n":{"type":"integer"}}}`, true, "type: Required value: must not be empty for specified object fields"},
		{"a default with unknown fields", `{"type":"object","default":{"a":1},"properties":{"b":{"type":"integer"}}}`, false, "must not have unknown fields"},
		{"a set of objects", `{"type":"array","x-kubernetes-list-type":"set","items":{"type":"object"}}`, false, "must be atomic as item of a list"},
		{"a key that may be absent", list, false, "must have a default or be a required property"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sound, odd := definitionWith(t, `{"type":"object"}`), definitionWith(t, c.schema)
			sound.Spec.PreserveUnknownFields, odd.Spec.PreserveUnknownFields = c.preserving, c.preserving
			if texts := refusals(odd, sound); !strings.Contains(texts, c.refusal) {
				t.Errorf("it may come about: %q", texts)
			}
			changed := odd.DeepCopy()
			changed.Labels = map[string]string{"a": "b"}
			if texts := refusals(changed, odd); texts != "" {
				t.Errorf("an update of something else is refused: %s", texts)
			}
		})
	}
}

func TestAVersionMayStayWithoutSchemaWhileNothingIsPruned(t *testing.T) {
	old := definitionWith(t, `{"type":"object"}`)
	old.Spec.Versions[0].Schema, old.Spec.PreserveUnknownFields = nil, true
	if texts := refusals(old.DeepCopy(), old); texts != "" {
		t.Errorf("refused: %s", texts)
	}
	pruned := old.DeepCopy()
	pruned.Spec.PreserveUnknownFields = false
	if texts := refusals(pruned, old); !strings.Contains(texts, "because otherwise all fields are pruned") {
		t.Errorf("not refused: %s", texts)
	}
}

func TestAWebhookMayStayOfWhichNoVersionIsKnown(t *testing.T) {
	old := definitionWith(t, `{"type":"object"}`)
	url := "https://example.com/convert"
	old.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: "Webhook", Webhook: &apiextensionsv1.WebhookConversion{
		ClientConfig: &apiextensionsv1.WebhookClientConfig{URL: &url}, ConversionReviewVersions: []string{"v0"},
	}}
	if texts := refusals(old.DeepCopy(), old); texts != "" {
		t.Errorf("refused: %s", texts)
	}
	known := old.DeepCopy()
	known.Spec.Conversion.Webhook.ConversionReviewVersions = []string{"v1"}
	if texts := refusals(old.DeepCopy(), known); !strings.Contains(texts, "must include at least one of v1, v1beta1") {
		t.Errorf("not refused: %s", texts)
	}
}

func refusals(d, old *apiextensionsv1.CustomResourceDefinition) string {
	var texts []string
	for _, err := range validateDefinitionUpdate(d, old) {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "\n")
}
