package fairness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

// conditionManager owns the conditions.
const conditionManager = "api-priority-and-fairness-config-consumer-v1"

// maxWrites is how often within a minute a schema's condition is written: several servers that disagree don't fight faster.
const maxWrites = 5

// A condition is what a schema's status should say.
type condition struct {
	schema string
	flowcontrolv1.FlowSchemaCondition
}

// danglingConditions tells of each schema whose status doesn't say so yet whether its level exists.
func danglingConditions(schemas []*flowcontrolv1.FlowSchema, exists func(level string) bool) []condition {
	var out []condition
	for _, s := range schemas {
		want := dangling(s.Spec.PriorityLevelConfiguration.Name, exists)
		have := slices.IndexFunc(s.Status.Conditions, func(c flowcontrolv1.FlowSchemaCondition) bool { return c.Type == want.Type })
		if have >= 0 {
			was := s.Status.Conditions[have]
			if was.Status == want.Status && was.Reason == want.Reason && was.Message == want.Message {
				continue
			}
		}
		out = append(out, condition{s.Name, want})
	}
	return out
}

func dangling(level string, exists func(string) bool) flowcontrolv1.FlowSchemaCondition {
	c := flowcontrolv1.FlowSchemaCondition{Type: flowcontrolv1.FlowSchemaConditionDangling, LastTransitionTime: metav1.Now()}
	c.Status, c.Reason = flowcontrolv1.ConditionFalse, "Found"
	c.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", level)
	if !exists(level) {
		c.Status, c.Reason = flowcontrolv1.ConditionTrue, "NotFound"
		c.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", level)
	}
	return c
}

// statusWrites remember when conditions were written.
type statusWrites map[string][]time.Time

// allow tells whether a schema's condition may be written now, and counts it.
func (w *statusWrites) allow(schema string, now time.Time) bool {
	if *w == nil {
		*w = statusWrites{}
	}
	for name, times := range *w {
		times = slices.DeleteFunc(times, func(t time.Time) bool { return now.Sub(t) > time.Minute })
		if (*w)[name] = times; len(times) == 0 {
			delete(*w, name)
		}
	}
	if len((*w)[schema]) > maxWrites {
		return false
	}
	(*w)[schema] = append((*w)[schema], now)
	return true
}

// write applies conditions. It returns how long to wait with those that were written too often.
func (c *Controller) write(ctx context.Context, cl client.Client, conditions []condition) (wait time.Duration, err error) {
	for _, cond := range conditions {
		if !c.writes.allow(cond.schema, time.Now()) {
			wait = 30*time.Second + rand.N(45*time.Second)
			continue
		}
		patch, perr := json.Marshal(flowcontrolv1.FlowSchema{
			TypeMeta:   metav1.TypeMeta{APIVersion: flowcontrolv1.SchemeGroupVersion.String(), Kind: "FlowSchema"},
			ObjectMeta: metav1.ObjectMeta{Name: cond.schema},
			Status:     flowcontrolv1.FlowSchemaStatus{Conditions: []flowcontrolv1.FlowSchemaCondition{cond.FlowSchemaCondition}},
		})
		if perr != nil {
			return wait, perr
		}
		force := true
		_, perr = cl.Patch(ctx, schemas.GVR, "", cond.schema, "status", types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: conditionManager, Force: &force})
		if perr != nil && !apierrors.IsNotFound(perr) {
			err = errors.Join(err, fmt.Errorf("set a status condition of the flow schema %s: %w", cond.schema, perr))
		}
	}
	return wait, err
}
