package remote

import (
	"encoding/json"
	"fmt"
	"mime"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"clipper.dev/clipper/internal/client"
)

const (
	protobufType = runtime.ContentTypeProtobuf
	jsonType     = runtime.ContentTypeJSON
)

var (
	protobufCodec = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	jsonCodec     = jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, jsonserializer.SerializerOptions{})
)

// acceptFor names the formats to ask for: kinds that have no Go type here come as JSON.
func acceptFor(gvr schema.GroupVersionResource) string {
	if scheme.Scheme.IsVersionRegistered(gvr.GroupVersion()) {
		return protobufType + "," + jsonType
	}
	return jsonType
}

// encode makes a request body. It does not write to obj, which others may be reading.
func encode(obj runtime.Object) (data []byte, contentType string, err error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		data, err = u.MarshalJSON()
		return data, jsonType, err
	}
	gvk, err := kindFor(obj)
	if err != nil {
		return nil, "", err
	}
	message, ok := obj.(interface{ Marshal() ([]byte, error) })
	if !ok {
		return nil, "", fmt.Errorf("%T has no protobuf form", obj)
	}
	raw, err := message.Marshal()
	if err != nil {
		return nil, "", err
	}
	envelope := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind}, Raw: raw}
	data = make([]byte, len(protobufPrefix)+envelope.Size())
	copy(data, protobufPrefix)
	if _, err := envelope.MarshalTo(data[len(protobufPrefix):]); err != nil {
		return nil, "", err
	}
	return data, protobufType, nil
}

var protobufPrefix = []byte{'k', '8', 's', 0}

func kindFor(obj runtime.Object) (schema.GroupVersionKind, error) {
	if _, ok := obj.(*metav1.DeleteOptions); ok { // registered in every group
		return schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}, nil
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return schema.GroupVersionKind{}, err
	}
	return kinds[0], nil
}

// decode makes the object of an answer's or a watch event's bytes.
func decode(contentType string, data []byte) (runtime.Object, error) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, fmt.Errorf("content type %q: %w", contentType, err)
	}
	switch media {
	case protobufType:
		obj, _, err := protobufCodec.Decode(data, nil, nil)
		return obj, err
	case jsonType:
		return decodeJSON(data)
	}
	return nil, fmt.Errorf("the server answered with %s, which was not asked for", media)
}

func decodeJSON(data []byte) (runtime.Object, error) {
	var kind metav1.TypeMeta
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, err
	}
	gvk := kind.GroupVersionKind()
	if scheme.Scheme.Recognizes(gvk) {
		obj, _, err := jsonCodec.Decode(data, nil, nil)
		return obj, err
	}
	obj, _, err := unstructured.UnstructuredJSONScheme.Decode(data, &gvk, nil)
	return obj, err
}

func listItems(list runtime.Object) ([]client.Object, error) {
	out := make([]client.Object, 0, meta.LenList(list))
	err := meta.EachListItem(list, func(obj runtime.Object) error {
		o, err := asObject(obj, nil)
		if err == nil {
			out = append(out, o)
		}
		return err
	})
	return out, err
}
