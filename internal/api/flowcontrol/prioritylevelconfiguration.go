package flowcontrol

import (
	"math"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

const (
	maxQueues      = 10_000_000
	maxEntropyBits = 60 // of the hash that deals a flow its queues
	zeroShares     = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares"
)

// PriorityLevelConfigurations is the row of flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration.
var PriorityLevelConfigurations = api.Register(&api.Resource{
	Group:        flowcontrolv1.GroupName,
	Name:         "prioritylevelconfigurations",
	Singular:     "prioritylevelconfiguration",
	Kind:         "PriorityLevelConfiguration",
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[flowcontrolv1.PriorityLevelConfiguration, flowcontrolv1.PriorityLevelConfigurationList]("v1")},
	Prefix:       "prioritylevelconfigurations",

	Default: api.On(defaultLevel),
	PrepareCreate: api.On(func(l *flowcontrolv1.PriorityLevelConfiguration) {
		l.Status = flowcontrolv1.PriorityLevelConfigurationStatus{}
	}),
	PrepareUpdate:            api.OnUpdate(func(n, o *flowcontrolv1.PriorityLevelConfiguration) { n.Status = o.Status }),
	Validate:                 api.Check(validateLevel),
	ValidateUpdate:           api.CheckSame(validateLevel),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		return !equality.Semantic.DeepEqual(n.(*flowcontrolv1.PriorityLevelConfiguration).Spec, o.(*flowcontrolv1.PriorityLevelConfiguration).Spec)
	},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Type", "string", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"]),
		api.Column("NominalConcurrencyShares", "string", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"]),
		api.Column("Queues", "string", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["queues"]),
		api.Column("HandSize", "string", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["handSize"]),
		api.Column("QueueLengthLimit", "string", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["queueLengthLimit"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(l *flowcontrolv1.PriorityLevelConfiguration, p api.PrintOptions) []any {
		var shares, queues, hand, length any = "<none>", "<none>", "<none>", "<none>"
		if limited := l.Spec.Limited; limited != nil {
			shares = int64(ptr.Deref(limited.NominalConcurrencyShares, 0))
			if q := limited.LimitResponse.Queuing; q != nil {
				queues, hand, length = int64(q.Queues), int64(q.HandSize), int64(q.QueueLengthLimit)
			}
		}
		return []any{l.Name, string(l.Spec.Type), shares, queues, hand, length, api.Age(l.CreationTimestamp, p)}
	}),

	Status: &api.Status{
		MetaOnUpdate: "-",
		PrepareUpdate: api.OnUpdate(func(n, o *flowcontrolv1.PriorityLevelConfiguration) {
			keepMeta(&n.ObjectMeta, &o.ObjectMeta)
			n.Spec = o.Spec
		}),
		ValidateUpdate: api.CheckSame(validateLevelStatus),
		ResetFields:    []string{"metadata", "spec"},
	},
})

func defaultLevel(l *flowcontrolv1.PriorityLevelConfiguration) {
	number := func(p **int32, n int32) {
		if *p == nil {
			*p = &n
		}
	}
	orElse := func(p *int32, n int32) {
		if *p == 0 {
			*p = n
		}
	}
	if s := l.Spec.Limited; s != nil {
		number(&s.NominalConcurrencyShares, 30)
		number(&s.LendablePercent, 0)
		if q := s.LimitResponse.Queuing; q != nil {
			orElse(&q.HandSize, 8)
			orElse(&q.Queues, 64)
			orElse(&q.QueueLengthLimit, 50)
		}
	}
	if s := l.Spec.Exempt; s != nil {
		number(&s.NominalConcurrencyShares, 0)
		number(&s.LendablePercent, 0)
	}
}

func validateLevel(l *flowcontrolv1.PriorityLevelConfiguration) (e check.Errors) {
	s, spec := &l.Spec, field.NewPath("spec")
	if _, there := l.Annotations[zeroShares]; there {
		e.Forbidden(field.NewPath("metadata", "annotations"), "annotation '"+zeroShares+"' is forbidden")
	}
	if (l.Name == "exempt") != (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		e.Invalid(spec.Child("type"), s.Type, "must be 'Exempt' if and only if `name` is 'exempt'")
	}
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			e.Forbidden(spec.Child("limited"), "must be nil if the type is not Limited")
		}
		if s.Exempt != nil {
			e.Add(validateShares(s.Exempt.NominalConcurrencyShares, spec.Child("exempt"))...)
			e.Add(validateLendable(s.Exempt.LendablePercent, spec.Child("exempt"))...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			e.Forbidden(spec.Child("exempt"), "must be nil if the type is Limited")
		}
		if s.Limited == nil {
			e.Required(spec.Child("limited"), "must not be empty when type is Limited")
		} else {
			e.Add(validateLimited(s.Limited, spec.Child("limited"))...)
		}
	default:
		check.Enum(&e, spec.Child("type"), s.Type, flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)
	}
	if fixed, there := fixedLevels[l.Name]; there {
		have, text := *s, "spec of '"+l.Name+"' must equal the fixed value"
		if l.Name == "exempt" {
			have.Exempt, text = nil, "spec of '"+l.Name+"' except the 'spec.exempt' field must equal the fixed value"
		}
		if !equality.Semantic.DeepEqual(have, fixed) {
			e.Invalid(spec, *s, text)
		}
	}
	e.Add(validateLevelStatus(l)...)
	return e
}

func validateLevelStatus(l *flowcontrolv1.PriorityLevelConfiguration) check.Errors {
	var types []string
	for _, c := range l.Status.Conditions {
		types = append(types, string(c.Type))
	}
	return validateConditions(types)
}

func validateShares(shares *int32, at *field.Path) (e check.Errors) {
	if shares != nil && *shares < 0 {
		e.Invalid(at.Child("nominalConcurrencyShares"), *shares, "must be a non-negative integer")
	}
	return e
}

func validateLendable(lendable *int32, at *field.Path) (e check.Errors) {
	if lendable != nil && (*lendable < 0 || *lendable > 100) {
		e.Invalid(at.Child("lendablePercent"), *lendable, "must be between 0 and 100, inclusive")
	}
	return e
}

func validateLimited(s *flowcontrolv1.LimitedPriorityLevelConfiguration, at *field.Path) (e check.Errors) {
	e.Add(validateShares(s.NominalConcurrencyShares, at)...)
	e.Add(validateResponse(&s.LimitResponse, at.Child("limitResponse"))...)
	e.Add(validateLendable(s.LendablePercent, at)...)
	if borrowed := s.BorrowingLimitPercent; borrowed != nil && *borrowed < 0 {
		e.Invalid(at.Child("borrowingLimitPercent"), *borrowed, "if specified, must be a non-negative integer")
	}
	return e
}

func validateResponse(r *flowcontrolv1.LimitResponse, at *field.Path) (e check.Errors) {
	switch q := r.Queuing; r.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if q != nil {
			e.Forbidden(at.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited")
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		if q == nil {
			e.Required(at.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited")
		} else {
			e.Add(validateQueuing(q, at.Child("queuing"))...)
		}
	default:
		check.Enum(&e, at.Child("type"), r.Type, flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)
	}
	return e
}

func validateQueuing(q *flowcontrolv1.QueuingConfiguration, at *field.Path) (e check.Errors) {
	if q.QueueLengthLimit <= 0 {
		e.Invalid(at.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive")
	}
	if q.Queues <= 0 {
		e.Invalid(at.Child("queues"), q.Queues, "must be positive")
	} else if q.Queues > maxQueues {
		e.Invalidf(at.Child("queues"), q.Queues, "must not be greater than %d", maxQueues)
	}
	bits := int(math.Ceil(math.Log2(float64(q.Queues)) * float64(q.HandSize)))
	switch hand := at.Child("handSize"); {
	case q.HandSize <= 0:
		e.Invalid(hand, q.HandSize, "must be positive")
	case q.HandSize > q.Queues:
		e.Invalidf(hand, q.HandSize, "should not be greater than queues (%d)", q.Queues)
	case bits > maxEntropyBits:
		e.Invalidf(hand, q.HandSize, "required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, maxEntropyBits)
	}
	return e
}
