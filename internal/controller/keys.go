package controller

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

// Self maps a change to the object's own key.
func Self(c client.Change) []Key {
	it := c.New
	if it == nil {
		it = c.Old
	}
	return []Key{{it.Namespace(), it.Name()}}
}

// Namespace maps a change to the key of the object's namespace.
func Namespace(c client.Change) []Key {
	return []Key{{Name: Self(c)[0].Namespace}}
}

// ServiceAccountToken maps a change to its Secret if that is, or may be, one of a service account's tokens and still there.
func ServiceAccountToken(c client.Change) []Key {
	if c.New == nil {
		return nil
	}
	if kind := c.New.Field("type"); kind != "" && kind != string(corev1.SecretTypeServiceAccountToken) {
		return nil
	}
	return Self(c)
}

// OwnerOf maps a change to the key of the controlling owner of a kind, the former one too if it is another.
func OwnerOf(kind string) func(client.Change) []Key {
	return func(c client.Change) []Key {
		var keys []Key
		for _, it := range []client.Item{c.Old, c.New} {
			if it == nil {
				continue
			}
			ref := ControllerRef(it.Owners())
			if ref == nil || ref.Kind != kind {
				continue
			}
			if key := (Key{it.Namespace(), ref.Name}); len(keys) == 0 || keys[0] != key {
				keys = append(keys, key)
			}
		}
		return keys
	}
}

// ControllerRef returns the owner reference that is marked as the controller, or nil.
func ControllerRef(owners []metav1.OwnerReference) *metav1.OwnerReference {
	for i := range owners {
		if owners[i].Controller != nil && *owners[i].Controller {
			return &owners[i]
		}
	}
	return nil
}
