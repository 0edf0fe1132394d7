package apiserver

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/apiserver/request"
)

// Remote is a server that serves a group and version in this one's stead.
type Remote struct {
	Available bool
	// Host names the server in URLs.
	Host string
	// Address finds where it can be reached now.
	Address func() (string, error)
	// TLS carries the client certificate by which the server believes whose request it is.
	TLS *tls.Config
	// Transport reaches it.
	Transport http.RoundTripper
}

// Remotes knows which groups and versions are served elsewhere. Its methods may be called concurrently.
type Remotes interface {
	Remote(gv schema.GroupVersion) (Remote, bool)
	// Discovery describes what the remote servers serve.
	Discovery() []apidiscovery.APIGroupDiscovery
}

// SetRemotes lets requests for what remote servers serve be passed on to them.
func (s *Server) SetRemotes(r Remotes) { s.remotes.Store(&r) }

// LocalGroupVersions lists what this server serves itself.
func (s *Server) LocalGroupVersions() []schema.GroupVersion {
	var out []schema.GroupVersion
	for _, g := range s.catalog.Load().groups {
		for _, v := range g.versions {
			out = append(out, v.gv)
		}
	}
	return out
}

// serveRemote passes a request on if another server is to answer it.
func (s *Server) serveRemote(w *response, r *http.Request, info *request.Info) bool {
	remotes := s.remotes.Load()
	if remotes == nil || info.Group == "" || info.Version == "" {
		return false
	}
	remote, ok := (*remotes).Remote(info.GroupVersion())
	if !ok {
		return false
	}
	if !remote.Available {
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		w.terminated = aggregatorComponent
		return true
	}
	if info.Verb == "watch" {
		w.ticket.Leave() // the seat that it needs is over there
	}
	identify(r.Header, infoOf(callOf(r.Context()).user))
	b := &backend{url: &url.URL{Scheme: "https", Host: remote.Host}, transport: remote.Transport, dial: func(ctx context.Context) (net.Conn, error) {
		address, err := remote.Address()
		if err != nil {
			return nil, err
		}
		cfg := remote.TLS.Clone()
		cfg.NextProtos = []string{"http/1.1"}
		return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", address)
	}}
	if err := s.passOn(w, r, b, &request.Info{Rest: r.URL.Path}); err != nil && err != errStreamed { //nolint:errorlint // never wrapped
		s.fail(w, r, err)
	}
	return true
}

// identify tells a remote server whose request it gets. What a client says of itself in such headers is dropped.
func identify(h http.Header, u user.Info) {
	for name := range h {
		if strings.HasPrefix(name, "X-Remote-") {
			delete(h, name)
		}
	}
	h.Set("X-Remote-User", u.GetName())
	if u.GetUID() != "" {
		h.Set("X-Remote-Uid", u.GetUID())
	}
	for _, g := range u.GetGroups() {
		h.Add("X-Remote-Group", g)
	}
	for key, values := range u.GetExtra() {
		for _, v := range values {
			h.Add("X-Remote-Extra-"+url.PathEscape(strings.ToLower(key)), v)
		}
	}
}

// remoteDiscovery is what remote servers add to discovery.
func (s *Server) remoteDiscovery() []apidiscovery.APIGroupDiscovery {
	if remotes := s.remotes.Load(); remotes != nil {
		return (*remotes).Discovery()
	}
	return nil
}

// addRemotes adds the remote groups, and versions of groups that are served here too, to a list of groups.
func addRemotes(list *metav1.APIGroupList, remote []apidiscovery.APIGroupDiscovery) *metav1.APIGroupList {
	for _, g := range remote {
		i := slices.IndexFunc(list.Groups, func(have metav1.APIGroup) bool { return have.Name == g.Name })
		if i < 0 {
			list.Groups = append(list.Groups, metav1.APIGroup{Name: g.Name})
			i = len(list.Groups) - 1
		}
		to := &list.Groups[i]
		for _, v := range g.Versions {
			if slices.ContainsFunc(to.Versions, func(have metav1.GroupVersionForDiscovery) bool { return have.Version == v.Version }) {
				continue // served here until the other server came
			}
			to.Versions = append(to.Versions, metav1.GroupVersionForDiscovery{GroupVersion: g.Name + "/" + v.Version, Version: v.Version})
		}
		to.PreferredVersion = to.Versions[0]
	}
	return list
}

// addAggregated adds them to the aggregated form.
func addAggregated(list *apidiscovery.APIGroupDiscoveryList, remote []apidiscovery.APIGroupDiscovery) *apidiscovery.APIGroupDiscoveryList {
	for _, g := range remote {
		i := slices.IndexFunc(list.Items, func(have apidiscovery.APIGroupDiscovery) bool { return have.Name == g.Name })
		if i < 0 {
			list.Items = append(list.Items, g)
			continue
		}
		for _, v := range g.Versions {
			list.Items[i].Versions = slices.DeleteFunc(list.Items[i].Versions, func(have apidiscovery.APIVersionDiscovery) bool { return have.Version == v.Version })
		}
		list.Items[i].Versions = append(list.Items[i].Versions, g.Versions...)
	}
	return list
}
