package audit

import (
	"bytes"
	"encoding/json"

	"sigs.k8s.io/yaml"
)

// normalize makes a body JSON on one line, with or without the managed fields of what it holds. It returns nil for what is no JSON or YAML.
func normalize(body []byte, omitManagedFields bool) []byte {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if !json.Valid(body) {
		converted, err := yaml.YAMLToJSON(body)
		if err != nil {
			return nil
		}
		body = converted
	}
	if omitManagedFields && bytes.Contains(body, []byte(`"managedFields"`)) {
		body = withoutManagedFields(body)
	}
	var out bytes.Buffer
	if json.Compact(&out, body) != nil {
		return nil
	}
	return out.Bytes()
}

// withoutManagedFields drops them from an object, the items of a list and the rows of a table.
func withoutManagedFields(body []byte) []byte {
	var o map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if decoder.Decode(&o) != nil {
		return body // a JSON patch, for one
	}
	dropManagedFields(o)
	if items, ok := o["items"].([]any); ok {
		for _, item := range items {
			dropManagedFields(item)
		}
	}
	if rows, ok := o["rows"].([]any); ok {
		for _, row := range rows {
			if r, ok := row.(map[string]any); ok {
				dropManagedFields(r["object"])
			}
		}
	}
	out, err := json.Marshal(o)
	if err != nil {
		return body
	}
	return out
}

func dropManagedFields(o any) {
	if object, ok := o.(map[string]any); ok {
		if meta, ok := object["metadata"].(map[string]any); ok {
			delete(meta, "managedFields")
		}
	}
}
