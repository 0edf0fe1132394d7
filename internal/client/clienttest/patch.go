package clienttest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"clipper.dev/clipper/internal/client"
)

// patched returns a new object: old with the patch applied.
func patched(old client.Object, pt types.PatchType, data []byte) (client.Object, error) {
	before := toJSON(old)
	var after []byte
	var err error
	switch pt {
	case types.JSONPatchType:
		var p jsonpatch.Patch
		if p, err = jsonpatch.DecodePatch(data); err == nil {
			after, err = p.Apply(before)
		}
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, data)
	case types.StrategicMergePatchType, types.ApplyPatchType:
		after, err = strategicpatch.StrategicMergePatch(before, data, old)
	default:
		err = fmt.Errorf("unknown patch type %q", pt)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	next := reflect.New(reflect.TypeOf(old).Elem()).Interface().(client.Object)
	if err := json.Unmarshal(after, next); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return next, nil
}

// bind assigns a pod to the node that a Binding names.
func (c *Client) bind(gvr schema.GroupVersionResource, namespace, name string, body runtime.Object) error {
	b, ok := body.(*corev1.Binding)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("a binding was expected, not %T", body))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	it := c.objects[gvr.GroupResource()][key{namespace, name}]
	if it == nil {
		return apierrors.NewNotFound(gvr.GroupResource(), name)
	}
	pod := it.Object().DeepCopyObject().(*corev1.Pod)
	if pod.Spec.NodeName != "" {
		return apierrors.NewConflict(gvr.GroupResource(), name, fmt.Errorf("pod %s is already assigned to node %q", name, pod.Spec.NodeName))
	}
	pod.Spec.NodeName = b.Target.Name
	pod.Status.Conditions = slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	c.store(gvr, pod)
	return nil
}
