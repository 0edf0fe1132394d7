package apiserver

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
)

// Served is one version of a kind as it is served now. It is read-only.
type Served struct {
	Row          *api.Resource
	Version      *api.Version
	Verbs        []string
	Subresources []ServedSubresource
}

// ServedSubresource is what is served below the objects of a kind.
type ServedSubresource struct {
	Name  string
	Kind  schema.GroupVersionKind // of its body
	Verbs []string
}

// Served lists what the server serves: the core group first, then the others in the order of discovery.
func (s *Server) Served() []Served {
	var out []Served
	for _, g := range s.catalog.Load().groups {
		for _, gv := range g.versions {
			for _, v := range gv.resources {
				one := Served{Row: v.row, Version: v.api, Verbs: v.verbs()}
				for _, sub := range v.subresources() {
					one.Subresources = append(one.Subresources, ServedSubresource{sub.name, sub.kind, sub.verbs})
				}
				out = append(out, one)
			}
		}
	}
	return out
}
