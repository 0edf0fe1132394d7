package crd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"

	"clipper.dev/clipper/internal/hook"
)

// conversionTimeout bounds a conversion by a webhook.
const conversionTimeout = 30 * time.Second

// A converter makes objects of another version, each of its argument's. Its results share nothing with its arguments that will be written to.
type converter func(in []*unstructured.Unstructured, to kschema.GroupVersion) ([]*unstructured.Unstructured, error)

func newConverter(d *definition, caller *hook.Caller, m *conversionMetrics) converter {
	c := d.Spec.Conversion
	if c == nil || c.Strategy != apiextensionsv1.WebhookConverter || c.Webhook == nil || c.Webhook.ClientConfig == nil {
		return rename
	}
	w := &webhookConverter{name: d.Name, metrics: m, caller: caller, target: targetOf(c.Webhook.ClientConfig), reviewVersion: "v1"}
	for _, v := range c.Webhook.ConversionReviewVersions {
		if v == "v1" || v == "v1beta1" {
			w.reviewVersion = v
			break
		}
	}
	return w.convert
}

func targetOf(c *apiextensionsv1.WebhookClientConfig) hook.Target {
	t := hook.Target{CABundle: c.CABundle}
	if c.URL != nil {
		t.URL = *c.URL
	}
	if s := c.Service; s != nil {
		t.Service = &hook.Service{Namespace: s.Namespace, Name: s.Name, Port: 443}
		if s.Port != nil {
			t.Service.Port = *s.Port
		}
		if s.Path != nil {
			t.Service.Path = *s.Path
		}
	}
	return t
}

// rename changes the apiVersion alone.
func rename(in []*unstructured.Unstructured, to kschema.GroupVersion) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, len(in))
	for i, u := range in {
		out[i] = u.DeepCopy()
		out[i].SetAPIVersion(to.String())
	}
	return out, nil
}

// webhookConverter asks a webhook.
type webhookConverter struct {
	name          string // of the definition
	metrics       *conversionMetrics
	caller        *hook.Caller
	target        hook.Target
	reviewVersion string
}

// A review is a ConversionReview of v1 or v1beta1, which are alike on the wire.
type review struct {
	metav1.TypeMeta `json:",inline"`
	Request         *apiextensionsv1.ConversionRequest `json:"request,omitempty"`
	Response        *reviewResponse                    `json:"response,omitempty"`
}

type reviewResponse struct {
	UID              string            `json:"uid"`
	ConvertedObjects []json.RawMessage `json:"convertedObjects"`
	Result           metav1.Status     `json:"result"`
}

// A batch is what one request to a webhook may hold: its answer, which may be longer, is bounded too.
const (
	batchObjects = 500
	batchBytes   = 4 << 20
)

func (w *webhookConverter) convert(in []*unstructured.Unstructured, to kschema.GroupVersion) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, 0, len(in))
	for len(in) > 0 {
		var raw []runtime.RawExtension
		size := 0
		for _, u := range in {
			one, err := json.Marshal(u.Object)
			if err != nil {
				return nil, fmt.Errorf("encode a %s for conversion: %w", u.GroupVersionKind(), err)
			}
			if size += len(one); len(raw) > 0 && (size > batchBytes || len(raw) == batchObjects) {
				break
			}
			raw = append(raw, runtime.RawExtension{Raw: one})
		}
		began := time.Now()
		some, err := w.batch(in[:len(raw)], raw, to)
		w.metrics.converted(w.name, in[0].GroupVersionKind().Version, to.Version, time.Since(began), err)
		if err != nil {
			return nil, err
		}
		out, in = append(out, some...), in[len(raw):]
	}
	return out, nil
}

// batch has a webhook convert objects, which raw holds as JSON, by one request.
func (w *webhookConverter) batch(in []*unstructured.Unstructured, raw []runtime.RawExtension, to kschema.GroupVersion) ([]*unstructured.Unstructured, error) {
	gvk := in[0].GroupVersionKind()
	answer, err := w.ask(raw, to)
	if err != nil {
		return nil, &errConversion{err.kind, fmt.Errorf("conversion webhook for %v failed: %w", gvk, err.reason)}
	}
	if n := len(answer.Response.ConvertedObjects); n != len(in) {
		return nil, &errConversion{"conversion_webhook_partial_response_failure", fmt.Errorf("conversion webhook for %v returned %d objects, expected %d", gvk, n, len(in))}
	}
	out := make([]*unstructured.Unstructured, len(in))
	for i, one := range answer.Response.ConvertedObjects {
		out[i] = &unstructured.Unstructured{}
		err := out[i].UnmarshalJSON(one)
		if err == nil {
			err = adopt(in[i], out[i], to, i)
		}
		if err != nil {
			return nil, &errConversion{"conversion_webhook_invalid_converted_object_failure", err}
		}
	}
	return out, nil
}

// ask sends one request.
func (w *webhookConverter) ask(raw []runtime.RawExtension, to kschema.GroupVersion) (*review, *errConversion) {
	id := uuid.NewUUID()
	asked := review{
		TypeMeta: metav1.TypeMeta{Kind: "ConversionReview", APIVersion: "apiextensions.k8s.io/" + w.reviewVersion},
		Request:  &apiextensionsv1.ConversionRequest{UID: id, DesiredAPIVersion: to.String(), Objects: raw},
	}
	ctx, cancel := context.WithTimeout(context.Background(), conversionTimeout)
	defer cancel()
	answer := &review{}
	if err := w.caller.Call(ctx, w.target, conversionTimeout, &asked, answer); err != nil {
		return nil, &errConversion{"conversion_webhook_call_failure", err}
	}
	if err := answer.check(asked.TypeMeta, string(id)); err != nil {
		return nil, &errConversion{"conversion_webhook_malformed_response_failure", err}
	}
	return answer, nil
}

func (r *review) check(want metav1.TypeMeta, id string) error {
	v1 := want.APIVersion == "apiextensions.k8s.io/v1"
	if v1 && r.TypeMeta != want {
		return fmt.Errorf("expected webhook response of %v, got %v", want.GroupVersionKind(), r.GroupVersionKind())
	}
	if r.Response == nil {
		return fmt.Errorf("no response provided")
	}
	if v1 && r.Response.UID != id {
		return fmt.Errorf("expected response.uid=%q, got %q", id, r.Response.UID)
	}
	if r.Response.Result.Status == metav1.StatusSuccess {
		return nil
	}
	if r.Response.Result.Message != "" {
		return fmt.Errorf("%s", r.Response.Result.Message)
	}
	return fmt.Errorf("response.result.status was '%s', not 'Success'", r.Response.Result.Status)
}

// adopt checks that the webhook converted the object that it was given, and restores what it may not change: all metadata
// except labels and annotations. index is the object's in the answer.
func adopt(in, out *unstructured.Unstructured, to kschema.GroupVersion, index int) error {
	gvk := in.GroupVersionKind()
	if got := out.GroupVersionKind().GroupVersion(); got != to {
		return fmt.Errorf("conversion webhook for %v returned invalid object at index %d: invalid groupVersion (expected %v, received %v)", gvk, index, to, got)
	}
	if out.GetKind() != in.GetKind() {
		return fmt.Errorf("conversion webhook for %v returned invalid object at index %d: invalid kind (expected %v, received %v)", gvk, index, in.GetKind(), out.GetKind())
	}
	for _, same := range []struct{ what, a, b string }{
		{"name", in.GetName(), out.GetName()}, {"namespace", in.GetNamespace(), out.GetNamespace()}, {"UID", string(in.GetUID()), string(out.GetUID())},
	} {
		if same.a != same.b {
			return fmt.Errorf("conversion webhook for %v returned invalid object: must have the same %s: %v != %v", gvk, same.what, same.a, same.b)
		}
	}
	answered, ok := out.Object["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("conversion webhook for %v returned invalid metadata: missing metadata in converted object", gvk)
	}
	metadata := map[string]any{}
	if original, ok := in.Object["metadata"].(map[string]any); ok {
		metadata = runtime.DeepCopyJSON(original)
	}
	for _, field := range []string{"labels", "annotations"} {
		delete(metadata, field)
		value, ok := answered[field].(map[string]any)
		if !ok {
			continue
		}
		for key, v := range value {
			if _, isText := v.(string); !isText {
				return fmt.Errorf("conversion webhook for %v returned invalid metadata: %s[%s] is no string", gvk, field, key)
			}
		}
		metadata[field] = value
	}
	out.Object["metadata"] = metadata
	return nil
}

// storageVersion is the version that a definition's objects are written as.
func storageVersion(d *definition) string {
	i := slices.IndexFunc(d.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Storage })
	if i < 0 {
		return ""
	}
	return d.Spec.Versions[i].Name
}
