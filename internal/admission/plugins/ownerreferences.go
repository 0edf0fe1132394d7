package plugins

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/authn"
	"clipper.dev/clipper/internal/client"
)

// OwnerReferencesPermissionEnforcement lets those change an object's owners who may delete it, and those make it hold up its owner's
// deletion who may set the owner's finalizers. It is off by default.
type OwnerReferencesPermissionEnforcement struct {
	client     client.Client
	authorizer authorizer.Authorizer
}

var _ admission.Validator = (*OwnerReferencesPermissionEnforcement)(nil)

// Name implements admission.Plugin.
func (*OwnerReferencesPermissionEnforcement) Name() string {
	return "OwnerReferencesPermissionEnforcement"
}

// Handles implements admission.Selective.
func (*OwnerReferencesPermissionEnforcement) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate implements admission.Validator.
func (p *OwnerReferencesPermissionEnforcement) Validate(ctx context.Context, r *admission.Request) error {
	if r.Operation != admission.Create && r.Operation != admission.Update || concerns(r, "", "pods", "status") {
		return nil
	}
	now, old := ownersOf(r.Object), ownersOf(r.OldObject)
	if equality.Semantic.DeepEqual(now, old) {
		return nil
	}
	who := authn.User(r.User)
	if r.Operation == admission.Update {
		decision, reason, err := p.authorizer.Authorize(ctx, authorizer.AttributesRecord{
			User: who, Verb: "delete", Namespace: r.Namespace, APIGroup: r.Resource.Group, APIVersion: r.Resource.Version,
			Resource: r.Resource.Resource, Subresource: r.Subresource, Name: r.Name, ResourceRequest: true,
		})
		if decision != authorizer.DecisionAllow {
			return forbidf(r, "cannot set an ownerRef on a resource you can't delete: %v, %v", reason, err)
		}
	}
	blocking := newlyBlocking(now, old)
	if len(blocking) == 0 || p.maySetFinalizers(ctx, who, schema.GroupVersionResource{Group: "*", Version: "*", Resource: "*"}, "", "*") == nil {
		return nil
	}
	for _, ref := range blocking {
		if err := p.mayBlock(ctx, r, who, ref); err != nil {
			return forbid(r, err)
		}
	}
	return nil
}

func ownersOf(o any) []metav1.OwnerReference {
	m, err := meta.Accessor(o)
	if err != nil {
		return nil
	}
	return m.GetOwnerReferences()
}

// newlyBlocking returns the references that hold up their owner's deletion and did not before.
func newlyBlocking(now, old []metav1.OwnerReference) []metav1.OwnerReference {
	blocked := map[string]bool{}
	for _, ref := range old {
		if ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion {
			blocked[string(ref.UID)] = true
		}
	}
	var out []metav1.OwnerReference
	for _, ref := range now {
		if ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion && !blocked[string(ref.UID)] {
			out = append(out, ref)
		}
	}
	return out
}

func (p *OwnerReferencesPermissionEnforcement) mayBlock(ctx context.Context, r *admission.Request, who user.Info, ref metav1.OwnerReference) error {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	found := false
	if err == nil {
		for _, k := range p.client.Kinds(ctx, nil) {
			if k.Kind != ref.Kind || k.GroupVersionResource.GroupVersion() != gv {
				continue
			}
			found = true
			namespace := ""
			if k.Namespaced {
				namespace = r.Namespace
			}
			if err := p.maySetFinalizers(ctx, who, k.GroupVersionResource, namespace, ref.Name); err != nil {
				return err
			}
		}
	}
	if !found {
		if err == nil {
			err = &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, SearchedVersions: []string{gv.Version}}
		}
		return fmt.Errorf("cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %s Kind %s: %w", ref.APIVersion, ref.Kind, err)
	}
	return nil
}

func (p *OwnerReferencesPermissionEnforcement) maySetFinalizers(ctx context.Context, who user.Info, gvr schema.GroupVersionResource, namespace, name string) error {
	decision, reason, err := p.authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: who, Verb: "update", Namespace: namespace, APIGroup: gvr.Group, APIVersion: gvr.Version, Resource: gvr.Resource, Subresource: "finalizers", Name: name, ResourceRequest: true,
	})
	if decision != authorizer.DecisionAllow {
		return fmt.Errorf("cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %v, %v", reason, err)
	}
	return nil
}
