package plugins

import (
	"context"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/authn"
	"clipper.dev/clipper/internal/authz/node"
	"clipper.dev/clipper/internal/pki"
)

// NodeRestriction limits kubelets to their own Node and the pods bound to it: the node authorizer sees no object's content, this plugin does.
type NodeRestriction struct {
	authorizer authorizer.Authorizer
	views      *views
}

var _ admission.Mutator = (*NodeRestriction)(nil)

// Name implements admission.Plugin.
func (*NodeRestriction) Name() string { return "NodeRestriction" }

// Handles implements admission.Selective.
func (*NodeRestriction) Handles(op admission.Operation) bool {
	return op != admission.Connect
}

// Admit implements admission.Mutator.
func (p *NodeRestriction) Admit(ctx context.Context, r *admission.Request) error {
	name, isNode := node.Identity(authn.User(r.User))
	if !isNode || r.Operation == admission.Connect {
		return nil
	}
	if name == "" {
		return forbidf(r, "could not determine node from user %q", r.User.Name)
	}
	switch r.Resource.GroupResource() {
	case schema.GroupResource{Resource: "pods"}:
		return p.pod(name, r)
	case schema.GroupResource{Resource: "nodes"}:
		return restrictNode(name, r)
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		return restrictClaim(name, r)
	case schema.GroupResource{Resource: "serviceaccounts"}:
		return p.token(ctx, name, r)
	case schema.GroupResource{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}:
		return forbidf(r, "PodCertificateRequest feature gate is disabled")
	case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
		return restrictLease(name, r)
	case schema.GroupResource{Group: "storage.k8s.io", Resource: "csinodes"}:
		if objectName(r) != name {
			return forbidf(r, "can only access CSINode with the same name as the requesting node")
		}
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}:
		return restrictSlice(name, r)
	case schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}:
		return restrictRequest(name, r)
	}
	return nil
}

func restrictClaim(name string, r *admission.Request) error {
	if r.Subresource != "status" {
		return forbidf(r, "may only update PVC status")
	}
	if r.Operation != admission.Update {
		return forbidf(r, "unexpected operation %q", r.Operation)
	}
	old, err := as[*corev1.PersistentVolumeClaim](r, r.OldObject)
	if err != nil {
		return err
	}
	next, err := as[*corev1.PersistentVolumeClaim](r, r.Object)
	if err != nil {
		return err
	}
	old, next = old.DeepCopy(), next.DeepCopy()
	for _, c := range []*corev1.PersistentVolumeClaim{old, next} {
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions = nil, nil
		c.Status.AllocatedResourceStatuses, c.Status.AllocatedResources = nil, nil
	}
	if !equality.Semantic.DeepEqual(old, next) {
		return forbidf(r, "node %q is not allowed to update fields other than status.quantity and status.conditions: %v", name, diff.Diff(old, next))
	}
	return nil
}

func restrictLease(name string, r *admission.Request) error {
	if r.Namespace != corev1.NamespaceNodeLease {
		return forbidf(r, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if r.Operation == admission.Create {
		if _, err := as[*coordinationv1.Lease](r, r.Object); err != nil {
			return err
		}
	}
	if objectName(r) != name {
		return forbidf(r, "can only access node lease with the same name as the requesting node")
	}
	return nil
}

func restrictSlice(name string, r *admission.Request) error {
	o, verb := r.Object, "create"
	switch r.Operation {
	case admission.Create:
	case admission.Delete:
		o, verb = r.OldObject, "delete"
	default:
		return nil
	}
	slice, err := as[*resourcev1.ResourceSlice](r, o)
	if err != nil {
		return err
	}
	if slice.Spec.NodeName == nil || *slice.Spec.NodeName != name {
		return forbidf(r, "can only %s ResourceSlice with the same NodeName as the requesting node", verb)
	}
	return nil
}

// restrictRequest keeps a node from asking for another node's certificate.
func restrictRequest(name string, r *admission.Request) error {
	if r.Operation != admission.Create {
		return nil
	}
	csr, err := as[*certificatesv1.CertificateSigningRequest](r, r.Object)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName}, csr.Spec.SignerName) {
		return nil
	}
	req, err := pki.ParseRequest(csr.Spec.Request)
	if err != nil {
		return forbidf(r, "unable to parse csr: %w", err)
	}
	if req.Subject.CommonName != "system:node:"+name {
		return forbidf(r, "can only create a node CSR with CN=system:node:%s", name)
	}
	return nil
}

// restrictNode lets a node write its own Node, but nothing there that would draw workloads to it.
func restrictNode(name string, r *admission.Request) error {
	if requested := objectName(r); requested != name {
		return forbidf(r, "node %q is not allowed to modify node %q", name, requested)
	}
	switch r.Operation {
	case admission.Create:
		n, err := as[*corev1.Node](r, r.Object)
		if err != nil {
			return err
		}
		if n.Spec.ConfigSource != nil {
			return forbidf(r, "node %q is not allowed to create pods with a non-nil configSource", name)
		}
		if bad := reservedLabels(n.Labels, nil); len(bad) > 0 {
			return forbidf(r, "node %q is not allowed to set the following labels: %s", name, strings.Join(bad, ", "))
		}
	case admission.Update:
		n, err := as[*corev1.Node](r, r.Object)
		if err != nil {
			return err
		}
		old, err := as[*corev1.Node](r, r.OldObject)
		if err != nil {
			return err
		}
		return restrictNodeUpdate(name, r, n, old)
	}
	return nil
}

func restrictNodeUpdate(name string, r *admission.Request, n, old *corev1.Node) error {
	if n.Spec.ConfigSource != nil && !equality.Semantic.DeepEqual(n.Spec.ConfigSource, old.Spec.ConfigSource) {
		return forbidf(r, "node %q is not allowed to update configSource to a new non-nil configSource", name)
	}
	if !equality.Semantic.DeepEqual(n.Spec.Taints, old.Spec.Taints) {
		return forbidf(r, "node %q is not allowed to modify taints", name)
	}
	if !equality.Semantic.DeepEqual(n.OwnerReferences, old.OwnerReferences) {
		return forbidf(r, "node %q is not allowed to modify ownerReferences", name)
	}
	if bad := reservedLabels(n.Labels, old.Labels); len(bad) > 0 {
		return forbidf(r, "is not allowed to modify labels: %s", strings.Join(bad, ", "))
	}
	return nil
}
