package apiserver

import (
	"encoding/json"
	"fmt"
	"reflect"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
)

// forms are what plugins may see a request's object as.
func (t target) forms(obj, old runtime.Object) []admission.Form {
	subject := obj
	if subject == nil {
		subject = old
	}
	if t.sub == "scale" {
		return []admission.Form{t.scaleForm(obj)}
	}
	if !t.isObject(subject) {
		return []admission.Form{t.bodyForm(subject)}
	}
	out := []admission.Form{t.form(t.v)}
	for _, other := range t.v.sharers {
		if other != t.v && (t.sub == "" || other.serves(t.sub)) {
			out = append(out, t.form(other))
		}
	}
	return out
}

// isObject tells objects of the kind from bodies of operations on them.
func (t target) isObject(o runtime.Object) bool {
	return o != nil && reflect.TypeOf(o) == reflect.TypeOf(t.v.newHub())
}

func (t target) form(v *version) admission.Form {
	return admission.Form{
		Resource: v.gvr, Kind: v.gvk,
		Of: func(o runtime.Object) (runtime.Object, error) {
			hub, ok := o.(api.Object)
			if !ok {
				return nil, fmt.Errorf("a %T has no metadata", o)
			}
			out, err := v.fromHub(hub)
			if err != nil {
				return nil, err
			}
			return typed(out, v.gvk), nil
		},
		Back: func(raw []byte) (runtime.Object, error) {
			o := v.api.New()
			if err := json.Unmarshal(raw, o); err != nil {
				return nil, err
			}
			if v.api.Coerce != nil {
				if _, err := v.api.Coerce(o, false); err != nil {
					return nil, err
				}
			}
			hub, err := v.accept(o)
			if err != nil || !t.v.text() {
				return hub, err
			}
			return t.v.fromHub(hub)
		},
	}
}

// scaleForm shows a write of an object's scale as what it is to clients.
func (t target) scaleForm(obj runtime.Object) admission.Form {
	return admission.Form{
		Resource: t.v.gvr, Kind: scaleKind,
		Of: func(o runtime.Object) (runtime.Object, error) {
			hub, ok := o.(api.Object)
			if !ok {
				return nil, fmt.Errorf("a %T has no scale", o)
			}
			scale, err := scaleOf(t.v.row, hub)
			if err != nil {
				return nil, err
			}
			return typed(scale, scaleKind), nil
		},
		Back: func(raw []byte) (runtime.Object, error) {
			var scale autoscalingv1.Scale
			if err := json.Unmarshal(raw, &scale); err != nil {
				return nil, err
			}
			out := obj.DeepCopyObject().(api.Object)
			t.v.row.Scale.Set(out, scale.Spec.Replicas)
			return out, nil
		},
	}
}

// bodyForm is of the body of an operation: a binding, an eviction, the options of a connection.
func (t target) bodyForm(o runtime.Object) admission.Form {
	gvk := t.bodyKind(o)
	return admission.Form{
		Resource: t.v.gvr, Kind: gvk,
		Of: func(o runtime.Object) (runtime.Object, error) { return typed(o, gvk), nil },
		Back: func(raw []byte) (runtime.Object, error) {
			out := reflect.New(reflect.TypeOf(o).Elem()).Interface().(runtime.Object)
			if err := json.Unmarshal(raw, out); err != nil {
				return nil, err
			}
			if _, text := out.(*unstructured.Unstructured); !text {
				out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
			}
			return out, nil
		},
	}
}

func (t target) bodyKind(o runtime.Object) schema.GroupVersionKind {
	if sub := t.subresource(); sub != nil && !sub.GVK.Empty() {
		return sub.GVK
	}
	if o == nil {
		return t.v.gvk
	}
	// Options of connections lie in the group of what is connected to.
	return t.v.gvk.GroupVersion().WithKind(reflect.TypeOf(o).Elem().Name())
}
