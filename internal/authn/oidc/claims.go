package oidc

import (
	"encoding/json"
	"errors"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/lazy"

	"k8s.io/apiserver/pkg/authentication/user"
)

// claims are what a verified token says.
type claims map[string]json.RawMessage

func (c claims) has(name string) bool { _, ok := c[name]; return ok }

func (c claims) read(name string, into any) error {
	raw, ok := c[name]
	if !ok {
		return errors.New("claim not present")
	}
	return json.Unmarshal(raw, into)
}

// value is the claims as expressions see them. A claim is decoded when an expression asks for it.
func (c claims) value() *lazy.MapValue {
	out := lazy.NewMapValue(types.NewObjectType("kubernetes.claims"))
	for name, raw := range c {
		out.Append(name, func(*lazy.MapValue) ref.Val {
			var value any
			if err := json.Unmarshal(raw, &value); err != nil {
				return types.NewErr("claim %q failed to unmarshal: %w", name, err)
			}
			return celValue(value)
		})
	}
	return out
}

// userValue is a user as expressions see them.
func userValue(u user.Info) *lazy.MapValue {
	out := lazy.NewMapValue(types.NewObjectType("kubernetes.UserInfo"))
	for name, value := range map[string]any{"username": u.GetName(), "uid": u.GetUID(), "groups": u.GetGroups(), "extra": u.GetExtra()} {
		out.Append(name, func(*lazy.MapValue) ref.Val { return celValue(value) })
	}
	return out
}

func celValue(v any) ref.Val { return reachable(types.DefaultTypeAdapter.NativeToValue(v)) }

// reachable lets expressions name the keys of objects that are no identifiers by their escaped form: claims.example__dot__com.
func reachable(v ref.Val) ref.Val {
	switch v := v.(type) {
	case traits.Mapper:
		return &object{v}
	case traits.Lister:
		return &list{v}
	}
	return v
}

type object struct{ traits.Mapper }

// Find implements traits.Mapper.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	if name, ok := key.(types.String); ok {
		if plain, ok := cel.Unescape(string(name)); ok {
			key = types.String(plain)
		}
	}
	v, ok := o.Mapper.Find(key)
	return reachable(v), ok
}

type list struct{ traits.Lister }

// Get implements traits.Indexer.
func (l *list) Get(index ref.Val) ref.Val { return reachable(l.Lister.Get(index)) }
