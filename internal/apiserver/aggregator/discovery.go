package aggregator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"clipper.dev/clipper/internal/apiserver"
)

// fetchTimeout bounds a look at a remote server; maxDiscovery what it may say.
const (
	fetchTimeout = 5 * time.Second
	maxDiscovery = 8 << 20
)

// fetch asks a remote server what it serves.
func fetch(ctx context.Context, r apiserver.Remote, gv schema.GroupVersion) ([]apidiscovery.APIResourceDiscovery, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	address := "https://" + r.Host + "/apis/" + gv.Group + "/" + gv.Version
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-Remote-User", "system:kube-aggregator")
	request.Header.Set("X-Remote-Group", "system:masters")
	request.Header.Set("Accept", "application/json")
	answer, err := r.Transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("failing or missing response from %s: Get %q: %w", address, address, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode >= 300 {
		return nil, fmt.Errorf("failing or missing response from %s: bad status from %s: %d", address, address, answer.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxDiscovery))
	if err != nil {
		return nil, fmt.Errorf("read the discovery of %s: %w", address, err)
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("read the discovery of %s: %w", address, err)
	}
	return convert(gv, list.APIResources), nil
}

// convert lays the resources out as aggregated discovery does: subresources below their resource.
func convert(gv schema.GroupVersion, list []metav1.APIResource) []apidiscovery.APIResourceDiscovery {
	var out []apidiscovery.APIResourceDiscovery
	index := map[string]int{}
	slices.SortStableFunc(list, func(a, b metav1.APIResource) int {
		return cmp.Compare(strings.Count(a.Name, "/"), strings.Count(b.Name, "/"))
	})
	for _, r := range list {
		kind := &metav1.GroupVersionKind{Group: cmp.Or(r.Group, gv.Group), Version: cmp.Or(r.Version, gv.Version), Kind: r.Kind}
		name, sub, below := strings.Cut(r.Name, "/")
		scope := apidiscovery.ScopeCluster
		if r.Namespaced {
			scope = apidiscovery.ScopeNamespace
		}
		i, known := index[name]
		if !known {
			i = len(out)
			index[name] = i
			out = append(out, apidiscovery.APIResourceDiscovery{Resource: name, Scope: scope})
		}
		if below {
			out[i].Subresources = append(out[i].Subresources, apidiscovery.APISubresourceDiscovery{Subresource: sub, ResponseKind: kind, Verbs: r.Verbs})
			continue
		}
		out[i].ResponseKind, out[i].SingularResource, out[i].Verbs = kind, r.SingularName, r.Verbs
		out[i].ShortNames, out[i].Categories = r.ShortNames, r.Categories
	}
	return out
}

// discoveryOf describes the remote groups, by the priorities of their APIServices.
func discoveryOf(remotes map[schema.GroupVersion]*remote) []apidiscovery.APIGroupDiscovery {
	all := make([]schema.GroupVersion, 0, len(remotes))
	for gv := range remotes {
		all = append(all, gv)
	}
	slices.SortFunc(all, func(a, b schema.GroupVersion) int {
		ra, rb := remotes[a].spec, remotes[b].spec
		return cmp.Or(cmp.Compare(rb.GroupPriorityMinimum, ra.GroupPriorityMinimum), cmp.Compare(a.Group, b.Group),
			cmp.Compare(rb.VersionPriority, ra.VersionPriority), version.CompareKubeAwareVersionStrings(b.Version, a.Version))
	})
	var out []apidiscovery.APIGroupDiscovery
	for _, gv := range all {
		r := remotes[gv]
		v := apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent, Resources: r.resources}
		if !r.Available {
			v.Freshness = apidiscovery.DiscoveryFreshnessStale
		}
		i := slices.IndexFunc(out, func(g apidiscovery.APIGroupDiscovery) bool { return g.Name == gv.Group })
		if i < 0 {
			i = len(out)
			out = append(out, apidiscovery.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: gv.Group}})
		}
		out[i].Versions = append(out[i].Versions, v)
	}
	return out
}
