package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/authz/bootstrap"
	"clipper.dev/clipper/internal/authz/rbac"
	"clipper.dev/clipper/internal/client"
)

// Authorizer decides what kubelets may do.
type Authorizer struct {
	pods        client.TypedView[*corev1.Pod]
	claims      client.TypedView[*corev1.PersistentVolumeClaim]
	volumes     client.TypedView[*corev1.PersistentVolume]
	attachments client.TypedView[*storagev1.VolumeAttachment]
	slices      client.TypedView[*resourcev1.ResourceSlice]
	rules       func(authorizer.Attributes) bool // what every node may do
}

var (
	_ authorizer.Authorizer   = (*Authorizer)(nil)
	_ authorizer.RuleResolver = (*Authorizer)(nil)
)

// New returns an authorizer whose views stay open until ctx ends. A kind that isn't served relates nothing to any node.
func New(ctx context.Context, c client.Client) (*Authorizer, error) {
	o, err := bootstrap.Load()
	if err != nil {
		return nil, err
	}
	a := &Authorizer{}
	for _, r := range o.ClusterRoles {
		if r.Name == "system:node" {
			a.rules = rbac.Matcher(r.Rules)
		}
	}
	served := c.Kinds(ctx, nil)
	err = errors.Join(
		open(ctx, c, served, corev1.SchemeGroupVersion.WithResource("pods"), &a.pods),
		open(ctx, c, served, corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), &a.claims),
		open(ctx, c, served, corev1.SchemeGroupVersion.WithResource("persistentvolumes"), &a.volumes),
		open(ctx, c, served, storagev1.SchemeGroupVersion.WithResource("volumeattachments"), &a.attachments),
		open(ctx, c, served, resourcev1.SchemeGroupVersion.WithResource("resourceslices"), &a.slices),
	)
	return a, err
}

func open[T client.Object](ctx context.Context, c client.Client, served []client.KindInfo, gvr schema.GroupVersionResource, into *client.TypedView[T]) (err error) {
	*into, err = client.ViewIfServed(ctx, c, served, client.Kind[T]{GVR: gvr})
	return err
}

// Identity returns the node that a user is: a member of system:nodes by the name of system:node:<name>.
func Identity(u user.Info) (name string, isNode bool) {
	if u == nil || !slices.Contains(u.GetGroups(), user.NodesGroup) {
		return "", false
	}
	if name, isNode = strings.CutPrefix(u.GetName(), "system:node:"); !isNode {
		return "", false
	}
	return name, true
}

// RulesFor implements authorizer.RuleResolver: what a node may do cannot be listed.
func (a *Authorizer) RulesFor(_ context.Context, u user.Info, _ string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	if _, isNode := Identity(u); isNode {
		return nil, nil, true, errors.New("node authorizer does not support user rule resolution")
	}
	return nil, nil, false, nil
}

// Authorize implements authorizer.Authorizer.
func (a *Authorizer) Authorize(_ context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	node, isNode := Identity(attrs.GetUser())
	if !isNode {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if node == "" {
		return authorizer.DecisionNoOpinion, fmt.Sprintf("unknown node for user %q", attrs.GetUser().GetName()), nil
	}
	allowed, reason := a.decide(node, attrs)
	if allowed {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, reason, nil
}

// decide answers for one node; the reason tells why not.
func (a *Authorizer) decide(node string, attrs authorizer.Attributes) (bool, string) {
	if !attrs.IsResourceRequest() {
		return a.rules(attrs), ""
	}
	switch (schema.GroupResource{Group: attrs.GetAPIGroup(), Resource: attrs.GetResource()}) {
	case schema.GroupResource{Resource: "secrets"}:
		return a.read(node, secretOf, attrs)
	case schema.GroupResource{Resource: "configmaps"}:
		return a.read(node, configMapOf, attrs)
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		if attrs.GetSubresource() == "status" {
			return a.claimStatus(node, attrs)
		}
		return a.get(node, claimOf, attrs)
	case schema.GroupResource{Resource: "persistentvolumes"}:
		return a.get(node, volumeOf, attrs)
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}:
		return a.get(node, resourceClaimOf, attrs)
	case schema.GroupResource{Group: "storage.k8s.io", Resource: "volumeattachments"}:
		return a.get(node, attachmentOf, attrs)
	case schema.GroupResource{Resource: "serviceaccounts"}:
		return a.serviceAccount(node, attrs)
	case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
		return lease(node, attrs)
	case schema.GroupResource{Group: "storage.k8s.io", Resource: "csinodes"}:
		return csiNode(node, attrs)
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}:
		return a.resourceSlice(node, attrs)
	case schema.GroupResource{Resource: "nodes"}:
		return ownNode(node, attrs)
	case schema.GroupResource{Resource: "pods"}:
		return a.pod(node, attrs)
	case schema.GroupResource{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}:
		return false, ""
	}
	return a.rules(attrs), ""
}
