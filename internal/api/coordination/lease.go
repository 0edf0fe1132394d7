package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// Leases is the row of coordination.k8s.io/v1 Lease.
var Leases = api.Register(&api.Resource{
	Group:        coordinationv1.GroupName,
	Name:         "leases",
	Singular:     "lease",
	Kind:         "Lease",
	Namespaced:   true,
	AnyFinalizer: true,
	Versions:     []api.Version{api.Serve[coordinationv1.Lease, coordinationv1.LeaseList]("v1")},
	Prefix:       "leases",

	// Coordinated leader election is off by default upstream: its fields are dropped unless the object has them already.
	PrepareCreate: api.On(func(l *coordinationv1.Lease) { l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil }),
	PrepareUpdate: api.OnUpdate(func(n, o *coordinationv1.Lease) {
		if o.Spec.Strategy == nil && o.Spec.PreferredHolder == nil {
			n.Spec.Strategy, n.Spec.PreferredHolder = nil, nil
		}
	}),
	Validate:            api.Check(validateLease),
	ValidateUpdate:      api.CheckSame(validateLease),
	AllowCreateOnUpdate: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Holder", "string", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(l *coordinationv1.Lease, p api.PrintOptions) []any {
		holder := ""
		if l.Spec.HolderIdentity != nil {
			holder = *l.Spec.HolderIdentity
		}
		return []any{l.Name, holder, api.Age(l.CreationTimestamp, p)}
	}),
})

func validateLease(l *coordinationv1.Lease) (e check.Errors) {
	spec := field.NewPath("spec")
	if d := l.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		e.Invalid(spec.Child("leaseDurationSeconds"), d, "must be greater than 0")
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		e.Invalid(spec.Child("leaseTransitions"), n, check.Negative)
	}
	if h := l.Spec.PreferredHolder; h != nil && *h != "" && (l.Spec.Strategy == nil || *l.Spec.Strategy == "") {
		e.Forbidden(spec.Child("preferredHolder"), "may only be specified if `strategy` is defined")
	}
	return e
}
