package resource

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// ResourceClaims is the row of resource.k8s.io/v1 ResourceClaim.
var ResourceClaims = api.Register(&api.Resource{
	Group:        resourcev1.GroupName,
	Name:         "resourceclaims",
	Singular:     "resourceclaim",
	Kind:         "ResourceClaim",
	Namespaced:   true,
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[resourcev1.ResourceClaim, resourcev1.ResourceClaimList]("v1")},
	Prefix:       "resourceclaims",

	ReturnsDeleted: true,

	Default:       api.On(func(c *resourcev1.ResourceClaim) { defaultClaim(&c.Spec) }),
	PrepareCreate: api.On(func(c *resourcev1.ResourceClaim) { c.Status = resourcev1.ResourceClaimStatus{} }),
	PrepareUpdate: api.OnUpdate(func(n, o *resourcev1.ResourceClaim) { n.Status = o.Status }),
	Validate: api.Check(func(c *resourcev1.ResourceClaim) check.Errors {
		return validateClaim(&c.Spec, field.NewPath("spec"))
	}),
	ValidateUpdate: api.CheckUpdate(func(n, o *resourcev1.ResourceClaim) (e check.Errors) {
		e.Unchanged(field.NewPath("spec"), n.Spec, o.Spec)
		return e
	}),
	AllowUnconditionalUpdate: true,
	Hooks: api.Hooks{
		BeginCreate: grantAdmin(func(o api.Object) []resourcev1.DeviceRequest {
			return o.(*resourcev1.ResourceClaim).Spec.Devices.Requests
		}),
		BeginStatusUpdate: grantStatus,
	},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("State", "string", "A summary of the current state (allocated, pending, reserved, etc.)."),
		api.AgeColumn,
	},
	Cells: api.Print(func(c *resourcev1.ResourceClaim, p api.PrintOptions) []any {
		return []any{c.Name, claimState(c), api.Age(c.CreationTimestamp, p)}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(prepareClaimStatus),
		ValidateUpdate: api.CheckUpdate(validateClaimStatus),
		ResetFields:    []string{"metadata", "spec"},
	},
})

func prepareClaimStatus(n, o *resourcev1.ResourceClaim) {
	metav1.ResetObjectMetaForStatus(n, o)
	n.Spec = o.Spec
	dropDeallocated(&n.Status, &o.Status)
}

func claimState(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	switch {
	case c.Status.Allocation != nil && len(c.Status.ReservedFor) > 0:
		states = append(states, "allocated", "reserved")
	case c.Status.Allocation != nil:
		states = append(states, "allocated")
	case c.DeletionTimestamp == nil:
		states = append(states, "pending")
	}
	return strings.Join(states, ",")
}

// defaultClaim asks for one device where nothing else is said.
func defaultClaim(s *resourcev1.ResourceClaimSpec) {
	one := func(mode *resourcev1.DeviceAllocationMode, count *int64) {
		if *mode == "" {
			*mode = resourcev1.DeviceAllocationModeExactCount
		}
		if *mode == resourcev1.DeviceAllocationModeExactCount && *count == 0 {
			*count = 1
		}
	}
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if r.Exactly != nil {
			one(&r.Exactly.AllocationMode, &r.Exactly.Count)
			defaultTolerations(r.Exactly.Tolerations)
		}
		for j := range r.FirstAvailable {
			one(&r.FirstAvailable[j].AllocationMode, &r.FirstAvailable[j].Count)
			defaultTolerations(r.FirstAvailable[j].Tolerations)
		}
	}
}

func defaultTolerations(tolerations []resourcev1.DeviceToleration) {
	for i := range tolerations {
		if tolerations[i].Operator == "" {
			tolerations[i].Operator = resourcev1.DeviceTolerationOpEqual
		}
	}
}
