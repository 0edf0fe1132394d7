package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
)

// ComponentStatuses is the row of core/v1 ComponentStatus, which is not stored: each read asks the parts of the control plane.
var ComponentStatuses = api.Register(&api.Resource{
	Name:       "componentstatuses",
	Singular:   "componentstatus",
	Kind:       "ComponentStatus",
	ShortNames: []string{"cs"},
	Versions:   []api.Version{componentStatusV1()},
	Verbs:      []string{"get", "list"},
	Observe: func(ctx context.Context, env api.Env, asked api.Observation) ([]api.Object, error) {
		var out []api.Object
		for _, c := range env.Components(ctx) {
			if asked.Name == "" || asked.Name == c.Name {
				out = append(out, componentStatus(c))
			}
		}
		if asked.Name != "" && len(out) == 0 {
			return nil, apierrors.NewNotFound(corev1.Resource("componentstatus"), asked.Name) // as upstream says it
		}
		return out, nil
	},
	Columns: []metav1.TableColumnDefinition{
		api.NameColumn, api.Column("Status", "string", "Status of the component conditions"),
		api.Column("Message", "string", "Message of the component conditions"), api.Column("Error", "string", "Error of the component conditions"),
	},
	Cells: api.Print(func(c *corev1.ComponentStatus, _ api.PrintOptions) []any {
		status, message, problem := "Unknown", "", ""
		for _, condition := range c.Conditions {
			if condition.Type != corev1.ComponentHealthy {
				continue
			}
			status, message, problem = "Unhealthy", condition.Message, condition.Error
			if condition.Status == corev1.ConditionTrue {
				status = "Healthy"
			}
		}
		return []any{c.Name, status, message, problem}
	}),
})

func componentStatusV1() api.Version {
	v := api.Serve[corev1.ComponentStatus, corev1.ComponentStatusList]("v1")
	v.Deprecated = "v1 ComponentStatus is deprecated in v1.19+"
	return v
}

// componentStatus tells a component's health in the words of a probe of its /healthz.
func componentStatus(c api.ComponentHealth) *corev1.ComponentStatus {
	healthy := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if c.Err != nil {
		healthy = corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionFalse, Error: c.Err.Error()}
	}
	return &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: c.Name}, Conditions: []corev1.ComponentCondition{healthy}}
}
