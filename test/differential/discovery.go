package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// resource is a kind as one version of its group serves it.
type resource struct {
	GroupVersion string `json:"-"`
	Name         string `json:"name"` // "pods", "pods/status"
	Kind         string `json:"kind"`
	Group        string `json:"group"`
	Version      string `json:"version"`
	Namespaced   bool   `json:"namespaced"`
	Verbs        verbs  `json:"verbs"`

	subresources map[string]*resource // of "pods": "status" and others
	schema       *schema
	defs         definitions
	objects      []map[string]any // the fixtures: minimal, rich, further ones
	namespace    string           // where objects are made, "" for those that belong to none
}

type verbs []string

func (v verbs) has(verb string) bool { return slices.Contains(v, verb) }

// id is how flags and reports name a resource: "v1/pods".
func (r *resource) id() string { return r.GroupVersion + "/" + r.Name }

// prefix is the path of the group's version.
func (r *resource) prefix() string {
	if strings.Contains(r.GroupVersion, "/") {
		return "/apis/" + r.GroupVersion
	}
	return "/api/" + r.GroupVersion
}

// path is that of the resource in its namespace; with a name, that of one object or, with more, of a subresource.
func (r *resource) path(names ...string) string {
	path := r.prefix()
	if r.Namespaced {
		path += "/namespaces/" + r.namespace
	}
	return strings.Join(append([]string{path, r.Name}, names...), "/")
}

// splitVersion splits "apps/v1".
func splitVersion(gv string) (group, version string) {
	if group, version, ok := strings.Cut(gv, "/"); ok {
		return group, version
	}
	return "", gv
}

// discover asks a server what it serves.
func discover(ctx context.Context, s *side) ([]*resource, error) {
	var groups struct {
		Groups []struct {
			Name     string
			Versions []struct{ GroupVersion string }
		}
	}
	if err := getJSON(ctx, s, "/apis", &groups); err != nil {
		return nil, err
	}
	versions := []string{"v1"}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			versions = append(versions, v.GroupVersion)
		}
	}
	var out []*resource
	for _, gv := range versions {
		found, err := discoverVersion(ctx, s, gv)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func discoverVersion(ctx context.Context, s *side, gv string) (out []*resource, err error) {
	var list struct {
		Resources []*resource `json:"resources"`
	}
	if err := getJSON(ctx, s, (&resource{GroupVersion: gv}).prefix(), &list); err != nil {
		return nil, err
	}
	byName := map[string]*resource{}
	for _, r := range list.Resources {
		r.GroupVersion = gv
		name, sub, isSub := strings.Cut(r.Name, "/")
		if isSub {
			if parent := byName[name]; parent != nil {
				parent.subresources[sub] = r
			}
			continue
		}
		r.subresources = map[string]*resource{}
		byName[name] = r
		out = append(out, r)
	}
	return out, nil
}

func getJSON(ctx context.Context, s *side, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s from %s: %s: %s", path, s.name, resp.Status, data)
	}
	return json.Unmarshal(data, into)
}
