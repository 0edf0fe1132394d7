package horizontalpodautoscaler

import (
	"context"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
)

// mapper is a meta.RESTMapper of the kinds as they are served now.
type mapper struct {
	kinds   func() []client.KindInfo
	changes atomic.Int64
	known   atomic.Pointer[meta.DefaultRESTMapper] // nil until somebody asks
}

var _ meta.RESTMapper = (*mapper)(nil)

func newMapper(ctx context.Context, c client.Client) *mapper {
	m := &mapper{kinds: func() []client.KindInfo { return c.Kinds(ctx, nil) }}
	c.Kinds(ctx, func() {
		m.changes.Add(1)
		m.known.Store(nil)
	})
	return m
}

// now returns the mapping of what is served.
func (m *mapper) now() *meta.DefaultRESTMapper {
	if known := m.known.Load(); known != nil {
		return known
	}
	changes := m.changes.Load()
	kinds := m.kinds()
	var versions []schema.GroupVersion
	for _, k := range kinds {
		versions = append(versions, k.GroupVersionResource.GroupVersion())
	}
	out := meta.NewDefaultRESTMapper(versions)
	for _, k := range kinds {
		scope := meta.RESTScopeRoot
		if k.Namespaced {
			scope = meta.RESTScopeNamespace
		}
		out.AddSpecific(k.GroupVersionResource.GroupVersion().WithKind(k.Kind), k.GroupVersionResource, k.GroupVersionResource, scope)
	}
	if m.known.Store(out); m.changes.Load() != changes {
		m.known.Store(nil)
	}
	return out
}

// KindFor implements meta.RESTMapper.
func (m *mapper) KindFor(resource schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return m.now().KindFor(resource)
}

// KindsFor implements meta.RESTMapper.
func (m *mapper) KindsFor(resource schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	return m.now().KindsFor(resource)
}

// ResourceFor implements meta.RESTMapper.
func (m *mapper) ResourceFor(input schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return m.now().ResourceFor(input)
}

// ResourcesFor implements meta.RESTMapper.
func (m *mapper) ResourcesFor(input schema.GroupVersionResource) ([]schema.GroupVersionResource, error) {
	return m.now().ResourcesFor(input)
}

// RESTMapping implements meta.RESTMapper.
func (m *mapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return m.now().RESTMapping(kind, versions...)
}

// RESTMappings implements meta.RESTMapper.
func (m *mapper) RESTMappings(kind schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return m.now().RESTMappings(kind, versions...)
}

// ResourceSingularizer implements meta.RESTMapper.
func (m *mapper) ResourceSingularizer(resource string) (string, error) {
	return m.now().ResourceSingularizer(resource)
}
