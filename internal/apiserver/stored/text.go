package stored

import (
	"encoding/json"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"clipper.dev/clipper/internal/api"
)

// encodeText makes the value of an unstructured object: JSON, as upstream stores custom resources.
func (k *Kind) encodeText(obj api.Object) (*Draft, error) {
	var err error
	if k.Stored != nil {
		if obj, err = k.Stored(obj); err != nil {
			return nil, err
		}
	}
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a %T is not unstructured", obj)
	}
	u = withMetadata(u)
	u.SetResourceVersion("")
	value, err := json.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("encode a %s: %w", k.GVK.Kind, err)
	}
	return &Draft{Value: append(value, '\n'), record: k.record(u), text: u}, nil
}

// textAt is the canonical JSON of an object at a revision.
func textAt(obj api.Object, revision int64) ([]byte, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a %T is not unstructured", obj)
	}
	u = withMetadata(u)
	u.SetResourceVersion(strconv.FormatInt(revision, 10))
	u.SetSelfLink("")
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("encode a %s: %w", u.GetKind(), err)
	}
	return raw, nil
}

// withMetadata returns a copy of an object that shares everything with it but its top level and that of its metadata.
func withMetadata(u *unstructured.Unstructured) *unstructured.Unstructured {
	content := make(map[string]any, len(u.Object))
	for k, v := range u.Object {
		content[k] = v
	}
	if old, ok := content["metadata"].(map[string]any); ok {
		metadata := make(map[string]any, len(old)+1)
		for k, v := range old {
			metadata[k] = v
		}
		content["metadata"] = metadata
	}
	return &unstructured.Unstructured{Object: content}
}
