package cluster

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/bootstrapsigner"
	"clipper.dev/clipper/internal/controller/clusterroleaggregation"
	"clipper.dev/clipper/internal/controller/csrapproving"
	"clipper.dev/clipper/internal/controller/csrcleaner"
	"clipper.dev/clipper/internal/controller/csrsigning"
	"clipper.dev/clipper/internal/controller/deployment"
	"clipper.dev/clipper/internal/controller/endpoints"
	"clipper.dev/clipper/internal/controller/endpointslice"
	"clipper.dev/clipper/internal/controller/garbagecollector"
	"clipper.dev/clipper/internal/controller/namespace"
	"clipper.dev/clipper/internal/controller/replicaset"
	"clipper.dev/clipper/internal/controller/rootcapublisher"
	"clipper.dev/clipper/internal/controller/serviceaccount"
	"clipper.dev/clipper/internal/controller/serviceaccounttoken"
	"clipper.dev/clipper/internal/controller/tokencleaner"
)

// controllers lists every controller of the control plane.
func (p *controlPlane) controllers() []controller.Constructor {
	ca := func() []byte { return p.keys.Authority().PEM() }
	return []controller.Constructor{
		{Name: "deployment", New: deployment.New},
		{Name: "replicaset", New: replicaset.New},
		{Name: "replication", User: controllerUser("replication-controller"), New: replicaset.NewReplicationController},
		{Name: "endpoint", New: endpoints.New},
		{Name: "endpointslice", New: endpointslice.New},
		{Name: "namespace", New: namespace.New},
		{Name: "garbage-collector", User: controllerUser("generic-garbage-collector"), New: garbagecollector.New},
		csrapproving.Constructor(p.authz), csrapproving.ServingConstructor(), csrsigning.Constructor(p.keys.Authority), csrcleaner.Constructor(),
		serviceaccount.Constructor(), serviceaccounttoken.Constructor(p.authn.IssueLegacyToken, ca), rootcapublisher.Constructor(ca),
		bootstrapsigner.Constructor(), tokencleaner.Constructor(), clusterroleaggregation.Constructor(),
	}
}

func controllerUser(account string) string { return "system:serviceaccount:kube-system:" + account }

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
	return controllerClient{Client: p.engine.Client(systemUser(name)), views: p.engine.Client(systemUser(managerUser))}
}
