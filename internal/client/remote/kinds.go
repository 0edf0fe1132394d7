package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"time"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
)

// The API tells nobody when its discovery document changes, so it is looked at from time to time.
const discoveryPeriod = 30 * time.Second

const discoveryType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// Kinds lists every resource that is served now and, if changed is not nil, calls it after each change of that list until ctx ends.
func (c *Client) Kinds(ctx context.Context, changed func()) []client.KindInfo {
	kinds, err := c.discover(ctx)
	if err != nil {
		c.cfg.Logger.Warn("discover the kinds of the API", "err", err)
	}
	if changed != nil {
		c.views.Go(func() { c.followKinds(ctx, kinds, changed) })
	}
	return kinds
}

func (c *Client) followKinds(ctx context.Context, known []client.KindInfo, changed func()) {
	for sleep(ctx, discoveryPeriod) == nil {
		kinds, err := c.discover(ctx)
		if err != nil || reflect.DeepEqual(kinds, known) {
			continue
		}
		known = kinds
		changed()
	}
}

func (c *Client) discover(ctx context.Context) ([]client.KindInfo, error) {
	var out []client.KindInfo
	for _, path := range []string{"/api", "/apis"} {
		groups, err := c.discoverGroups(ctx, path)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			for _, v := range g.Versions {
				out = append(out, kindsOf(g.Name, v)...)
			}
		}
	}
	return out, nil
}

func (c *Client) discoverGroups(ctx context.Context, path string) ([]apidiscovery.APIGroupDiscovery, error) {
	resp, err := c.send(ctx, http.MethodGet, path, nil, nil, "", discoveryType)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: the server answered %s", path, resp.Status)
	}
	var list apidiscovery.APIGroupDiscoveryList
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	return list.Items, nil
}

func kindsOf(group string, v apidiscovery.APIVersionDiscovery) []client.KindInfo {
	var out []client.KindInfo
	for _, r := range v.Resources {
		info := client.KindInfo{
			GroupVersionResource: schema.GroupVersionResource{Group: group, Version: v.Version, Resource: r.Resource},
			Namespaced:           r.Scope == apidiscovery.ScopeNamespace,
			Verbs:                slices.Clone(r.Verbs),
		}
		if r.ResponseKind != nil {
			info.Kind = r.ResponseKind.Kind
		}
		out = append(out, info)
	}
	return out
}
