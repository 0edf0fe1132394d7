package resource

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
)

// grantAdmin is the hook of kinds with requests: access to devices in use by others is for namespaces that are marked for it.
func grantAdmin(requests func(api.Object) []resourcev1.DeviceRequest) func(context.Context, api.Env, api.Object, bool) (func(bool), error) {
	return func(ctx context.Context, env api.Env, obj api.Object, _ bool) (func(bool), error) {
		for i, r := range requests(obj) {
			if r.Exactly != nil && r.Exactly.AdminAccess != nil && *r.Exactly.AdminAccess {
				at := field.NewPath("spec", "devices", "requests").Index(i).Child("adminAccess")
				if err := checkAdmin(ctx, env, obj, at); err != nil {
					return nil, apierrors.NewInvalid(requestingKind(obj), obj.GetName(), field.ErrorList{err})
				}
				return nil, nil
			}
		}
		return nil, nil
	}
}

func requestingKind(obj api.Object) schema.GroupKind {
	if _, template := obj.(*resourcev1.ResourceClaimTemplate); template {
		return schema.GroupKind{Group: resourcev1.GroupName, Kind: "ResourceClaimTemplate"}
	}
	return schema.GroupKind{Group: resourcev1.GroupName, Kind: "ResourceClaim"}
}

// checkAdminStatus is for what a claim was granted as grantAdmin is for what it asks for.
func checkAdminStatus(ctx context.Context, env api.Env, n, o *resourcev1.ResourceClaim) field.ErrorList {
	at := adminResult(n)
	if at == nil || adminResult(o) != nil {
		return nil
	}
	if err := checkAdmin(ctx, env, n, at); err != nil {
		return field.ErrorList{err}
	}
	return nil
}

func adminResult(c *resourcev1.ResourceClaim) *field.Path {
	if c.Status.Allocation == nil {
		return nil
	}
	for i, r := range c.Status.Allocation.Devices.Results {
		if r.AdminAccess != nil && *r.AdminAccess {
			return field.NewPath("status", "allocation", "devices", "results").Index(i).Child("adminAccess")
		}
	}
	return nil
}

func checkAdmin(ctx context.Context, env api.Env, obj api.Object, at *field.Path) *field.Error {
	ns, err := env.Client().Get(ctx, corev1.SchemeGroupVersion.WithResource("namespaces"), "", obj.GetNamespace())
	if err != nil {
		return field.InternalError(at, fmt.Errorf("could not retrieve namespace to verify admin access: %w", err))
	}
	if ns.GetLabels()[resourcev1.DRAAdminNamespaceLabelKey] == "true" {
		return nil
	}
	return field.Forbidden(at, fmt.Sprintf("admin access to devices requires the `%s: true` label on the containing namespace", resourcev1.DRAAdminNamespaceLabelKey))
}
