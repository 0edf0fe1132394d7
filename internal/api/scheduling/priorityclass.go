package scheduling

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// PriorityClasses is the row of scheduling.k8s.io/v1 PriorityClass.
var PriorityClasses = api.Register(&api.Resource{
	Group:      schedulingv1.GroupName,
	Name:       "priorityclasses",
	Singular:   "priorityclass",
	Kind:       "PriorityClass",
	ShortNames: []string{"pc"},
	Versions:   []api.Version{api.Serve[schedulingv1.PriorityClass, schedulingv1.PriorityClassList]("v1")},
	Prefix:     "priorityclasses",

	Default:                  api.On(defaultPriorityClass),
	PrepareCreate:            api.On(func(pc *schedulingv1.PriorityClass) { pc.Generation = 1 }),
	Validate:                 api.Check(validatePriorityClass),
	ValidateUpdate:           api.CheckUpdate(validatePriorityClassUpdate),
	AllowUnconditionalUpdate: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Value", "integer", schedulingv1.PriorityClass{}.SwaggerDoc()["value"]),
		api.Column("Global-Default", "boolean", schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"]),
		api.AgeColumn,
		api.Column("PreemptionPolicy", "string", schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"]),
	},
	Cells: api.Print(func(pc *schedulingv1.PriorityClass, p api.PrintOptions) []any {
		policy := ""
		if pc.PreemptionPolicy != nil {
			policy = string(*pc.PreemptionPolicy)
		}
		return []any{pc.Name, int64(pc.Value), pc.GlobalDefault, api.Age(pc.CreationTimestamp, p), policy}
	}),
})

// Names beginning with systemPrefix are reserved; other classes end at highestUserPriority.
const (
	systemPrefix        = "system-"
	highestUserPriority = 1000000000
)

// systemValues are the priorities of the predefined classes.
var systemValues = map[string]int32{
	"system-node-critical":    2*highestUserPriority + 1000,
	"system-cluster-critical": 2 * highestUserPriority,
}

func defaultPriorityClass(pc *schedulingv1.PriorityClass) {
	if pc.PreemptionPolicy == nil {
		policy := corev1.PreemptLowerPriority
		pc.PreemptionPolicy = &policy
	}
}

func validatePriorityClass(pc *schedulingv1.PriorityClass) (e check.Errors) {
	if strings.HasPrefix(pc.Name, systemPrefix) {
		if err := checkSystemClass(pc); err != nil {
			e.Forbidden(field.NewPath("metadata", "name"), "priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+err.Error())
		}
	} else if pc.Value > highestUserPriority {
		e.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", highestUserPriority))
	}
	if pc.PreemptionPolicy != nil {
		check.Enum(&e, field.NewPath("preemptionPolicy"), *pc.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
	return e
}

func checkSystemClass(pc *schedulingv1.PriorityClass) error {
	value, known := systemValues[pc.Name]
	switch {
	case !known:
		return fmt.Errorf("%v is not a known system priority class", pc.Name)
	case pc.Value != value:
		return fmt.Errorf("value of %v PriorityClass must be %v", pc.Name, value)
	case pc.GlobalDefault:
		return fmt.Errorf("globalDefault of %v PriorityClass must be false", pc.Name)
	}
	return nil
}

func validatePriorityClassUpdate(pc, old *schedulingv1.PriorityClass) (e check.Errors) {
	if pc.Value != old.Value {
		e.Forbidden(field.NewPath("value"), "may not be changed in an update.")
	}
	e.Unchanged(field.NewPath("preemptionPolicy"), pc.PreemptionPolicy, old.PreemptionPolicy)
	return e
}
