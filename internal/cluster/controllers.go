package cluster

import (
	"context"
	"net/http"
	"net/netip"

	"k8s.io/apimachinery/pkg/runtime/schema"

	nodeauthz "clipper.dev/clipper/internal/authz/node"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/bootstrapsigner"
	"clipper.dev/clipper/internal/controller/clusterauthentication"
	"clipper.dev/clipper/internal/controller/clusterroleaggregation"
	"clipper.dev/clipper/internal/controller/csrapproving"
	"clipper.dev/clipper/internal/controller/csrcleaner"
	"clipper.dev/clipper/internal/controller/csrsigning"
	"clipper.dev/clipper/internal/controller/horizontalpodautoscaler"
	"clipper.dev/clipper/internal/controller/kubernetesservice"
	"clipper.dev/clipper/internal/controller/legacytokencleaner"
	"clipper.dev/clipper/internal/controller/legacytokentracking"
	"clipper.dev/clipper/internal/controller/policystatus"
	"clipper.dev/clipper/internal/controller/resourcequota"
	"clipper.dev/clipper/internal/controller/rootcapublisher"
	"clipper.dev/clipper/internal/controller/roster"
	"clipper.dev/clipper/internal/controller/serviceaccount"
	"clipper.dev/clipper/internal/controller/serviceaccounttoken"
	"clipper.dev/clipper/internal/controller/tokencleaner"
)

// controllers lists every controller of the control plane: those of the roster, and those that need what this process alone has.
func (p *controlPlane) controllers() []controller.Constructor {
	l := p.opts.Layout
	clientCA := func() []byte { return p.keys.Authority().PEM() }
	proxyCA := func() []byte {
		if p.whoMay.proxyCA != nil {
			return p.whoMay.proxyCA
		}
		return p.keys.FrontProxyAuthority().PEM()
	}
	proxy := p.opts.WhoMayOptions.Proxy
	return append(roster.Constructors(roster.Config{
		ClusterCIDRs: []netip.Prefix{l.PodCIDR},
		Kubernetes: kubernetesservice.Config{
			ServiceIP: l.ServiceIP(1), Port: int32(l.APIPort), Addresses: func() []netip.Addr { return []netip.Addr{p.nodeIP} },
		},
	}),
		csrapproving.Constructor(p.authz), csrapproving.ServingConstructor(), csrsigning.Constructor(p.keys.Authority), csrcleaner.Constructor(),
		serviceaccount.Constructor(), serviceaccounttoken.Constructor(p.authn.IssueLegacyToken, clientCA), rootcapublisher.Constructor(clientCA),
		legacytokentracking.Constructor(), legacytokencleaner.Constructor(legacytokencleaner.Config{Period: p.opts.LegacyTokenPeriod, Mounted: nodeauthz.Secrets}),
		bootstrapsigner.Constructor(), tokencleaner.Constructor(), clusterroleaggregation.Constructor(),
		resourcequota.Constructor(p.ledger), policystatus.Constructor(p.documents.Schema),
		horizontalpodautoscaler.Constructor(func(user string) http.RoundTripper { return p.engine.Transport(systemUser(user)) }),
		clusterauthentication.Constructor(clientCA, proxyCA, clusterauthentication.Proxy{
			UserHeaders: proxy.UserHeaders, UIDHeaders: proxy.UIDHeaders, GroupHeaders: proxy.GroupHeaders, ExtraPrefixes: proxy.ExtraPrefixes, AllowedNames: proxy.AllowedNames,
		}),
	)
}

// managerUser is whom the controllers watch as; each writes as itself. Upstream's share their watches likewise.
const managerUser = "system:kube-controller-manager"

// controllerClient reads live sets as the manager of all controllers, and does everything else as one of them.
type controllerClient struct {
	client.Client
	views client.Client
}

func (c controllerClient) View(ctx context.Context, gvr schema.GroupVersionResource, sel client.Selection) (client.View, error) {
	return c.views.View(ctx, gvr, sel)
}

func (p *controlPlane) controllerClient(name string) client.Client {
	if name == engineUser.Name {
		return p.engine.Client(engineUser)
	}
	return controllerClient{Client: p.engine.Client(systemUser(name)), views: p.engine.Client(systemUser(managerUser))}
}
