package resource

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"

	"clipper.dev/clipper/internal/api"
)

// grantStatus is the hook of claims' statuses, of which each part wants a right of its own: who binds a claim isn't who tells of its devices.
func grantStatus(ctx context.Context, env api.Env, newObj, oldObj api.Object, _ bool) (func(bool), error) {
	n, o := newObj.(*resourcev1.ResourceClaim), oldObj.(*resourcev1.ResourceClaim)
	errs := append(checkAdminStatus(ctx, env, n, o), mayBind(ctx, env, n, o)...)
	if n.Status.Allocation != nil { // Otherwise what is told of devices goes anyway.
		errs = append(errs, mayTellOfDevices(ctx, env, n, o)...)
	}
	if len(errs) > 0 { // told with what else is wrong
		n = n.DeepCopy()
		prepareClaimStatus(n, o)
		errs = append(errs, validateClaimStatus(n, o)...)
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: resourcev1.GroupName, Kind: "ResourceClaim"}, n.Name, errs)
	}
	return nil, nil
}

func subresource(ctx context.Context, env api.Env, name string) api.AccessAttributes {
	return api.AccessAttributes{
		User: env.User(ctx), Verb: env.Verb(ctx), Group: resourcev1.GroupName, Version: resourcev1.SchemeGroupVersion.Version, Resource: "resourceclaims", Subresource: name,
	}
}

// mayBind looks whether the user may allocate and reserve claims, everywhere.
func mayBind(ctx context.Context, env api.Env, n, o *resourcev1.ResourceClaim) field.ErrorList {
	if equality.Semantic.DeepEqual(n.Status.Allocation, o.Status.Allocation) && equality.Semantic.DeepEqual(n.Status.ReservedFor, o.Status.ReservedFor) {
		return nil
	}
	attrs := subresource(ctx, env, resourcev1.SubresourceBinding)
	if err := env.Permit(ctx, attrs); err != nil {
		return field.ErrorList{field.Forbidden(field.NewPath("status", "allocation"),
			fmt.Sprintf(`changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="%s" permission: %s`, attrs.Verb, err))}
	}
	return nil
}

// mayTellOfDevices looks whether the user may tell of devices of the drivers whose entries changed: of those on its own node, or on any.
func mayTellOfDevices(ctx context.Context, env api.Env, n, o *resourcev1.ResourceClaim) (errs field.ErrorList) {
	drivers := changedDrivers(n.Status.Devices, o.Status.Devices)
	if len(drivers) == 0 {
		return nil
	}
	verb := env.Verb(ctx)
	verbs := []string{resourcev1.VerbPrefixArbitraryNode + verb}
	if runsOn(env.User(ctx), nodeOf(n.Status.Allocation)) {
		verbs = []string{resourcev1.VerbPrefixAssociatedNode + verb, resourcev1.VerbPrefixArbitraryNode + verb}
	}
	for _, driver := range drivers {
		var refused error
		for _, v := range verbs {
			attrs := subresource(ctx, env, resourcev1.SubresourceDriver)
			attrs.Verb, attrs.Namespace, attrs.Name = v, n.Namespace, driver
			err := env.Permit(ctx, attrs)
			if err == nil {
				refused = nil
				break
			}
			if refused == nil {
				refused = err
			}
		}
		if refused != nil {
			errs = append(errs, field.Forbidden(field.NewPath("status", "devices"),
				fmt.Sprintf(`changing status.devices requires resource="resourceclaims/driver", verb="%s" permission: %s`, verbs, refused)))
		}
	}
	return errs
}

// changedDrivers names the drivers of which an entry came, went or changed, in order.
func changedDrivers(after, before []resourcev1.AllocatedDeviceStatus) []string {
	known := map[device]*resourcev1.AllocatedDeviceStatus{}
	for i := range before {
		known[statusDevice(&before[i])] = &before[i]
	}
	changed := map[string]bool{}
	for i := range after {
		d := statusDevice(&after[i])
		if old := known[d]; old == nil || !equality.Semantic.DeepEqual(old, &after[i]) {
			changed[d.driver] = true
		}
		delete(known, d)
	}
	for d := range known {
		changed[d.driver] = true
	}
	return slices.Sorted(maps.Keys(changed))
}

// nodeOf is the only node from which an allocation can be used; "" if there's no such node.
func nodeOf(a *resourcev1.AllocationResult) string {
	if a == nil || a.NodeSelector == nil || len(a.NodeSelector.NodeSelectorTerms) != 1 {
		return ""
	}
	term := a.NodeSelector.NodeSelectorTerms[0]
	if len(term.MatchExpressions) != 0 || len(term.MatchFields) != 1 {
		return ""
	}
	f := term.MatchFields[0]
	if f.Key != "metadata.name" || f.Operator != corev1.NodeSelectorOpIn || len(f.Values) != 1 {
		return ""
	}
	return f.Values[0]
}

// runsOn tells whether a user is a service account whose token was given to a pod on a node.
func runsOn(u api.UserInfo, node string) bool {
	if _, _, err := serviceaccount.SplitUsername(u.Name); err != nil || node == "" {
		return false
	}
	names := u.Extra[serviceaccount.NodeNameKey]
	return len(names) == 1 && names[0] == node
}
