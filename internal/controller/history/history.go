// Package history keeps the revisions of a pod template, as ControllerRevision objects: StatefulSets and DaemonSets roll from
// one to the next, and people go back to a former one.
package history

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller/claim"
)

// Owner is whose templates are kept.
type Owner struct {
	Client   client.Client
	Object   client.Object
	Kind     schema.GroupVersionKind
	Resource schema.GroupVersionResource
	Selector labels.Selector
	View     client.TypedView[*appsv1.ControllerRevision]
	// Name returns a revision's name, and its label and value, for its data and the number of collisions so far.
	Name func(data []byte, collisions *int32) (name, label, value string)
}

// List returns the owner's revisions, the oldest first. It adopts and releases as selectors say.
func (o *Owner) List(ctx context.Context) ([]*appsv1.ControllerRevision, error) {
	c := claim.Claimer[*appsv1.ControllerRevision]{Client: o.Client, Kind: client.ControllerRevisions, Owner: o.Object, OwnerKind: o.Kind, OwnerGVR: o.Resource, Selector: o.Selector}
	list, err := c.Claim(ctx, c.Candidates(o.View))
	if err != nil {
		return nil, fmt.Errorf("claim the revisions: %w", err)
	}
	slices.SortFunc(list, older)
	return list, nil
}

func older(a, b *appsv1.ControllerRevision) int {
	return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// Data makes a revision's data of a template: the patch that puts it back.
func Data(template *corev1.PodTemplateSpec) ([]byte, error) {
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, err
	}
	var content map[string]any
	if err := json.Unmarshal(raw, &content); err != nil {
		return nil, err
	}
	content["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": content}})
}

// Template returns the template that a revision keeps.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &data); err != nil {
		return nil, fmt.Errorf("read revision %s: %w", r.Name, err)
	}
	return &data.Spec.Template, nil
}

// same compares the data of two revisions, whatever the order and spacing of their JSON.
func same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Ensure returns the revision of a template, the newest of list then: it is made if there's none, and an older one that equals it is
// numbered anew. collisions is the number of names that turned out to be taken; the one returned is to be kept in the owner's status.
func (o *Owner) Ensure(ctx context.Context, list []*appsv1.ControllerRevision, template *corev1.PodTemplateSpec, collisions *int32) (*appsv1.ControllerRevision, *int32, error) {
	data, err := Data(template)
	if err != nil {
		return nil, collisions, err
	}
	next := int64(1)
	if len(list) > 0 {
		next = list[len(list)-1].Revision + 1
	}
	for i, r := range slices.Backward(list) {
		if !same(r.Data.Raw, data) {
			continue
		}
		if i == len(list)-1 {
			return r, collisions, nil
		}
		r = r.DeepCopy()
		r.Revision = next
		r, err = client.ControllerRevisions.Update(ctx, o.Client, r)
		return r, collisions, err
	}
	return o.create(ctx, data, template.Labels, next, collisions)
}

func (o *Owner) create(ctx context.Context, data []byte, templateLabels map[string]string, number int64, collisions *int32) (*appsv1.ControllerRevision, *int32, error) {
	for {
		name, label, value := o.Name(data, collisions)
		all := maps.Clone(templateLabels)
		if all == nil {
			all = map[string]string{}
		}
		all[label] = value
		r := &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{Namespace: o.Object.GetNamespace(), Name: name, Labels: all, Annotations: maps.Clone(o.Object.GetAnnotations()),
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(o.Object, o.Kind)}},
			Data:     runtime.RawExtension{Raw: data},
			Revision: number,
		}
		stored, err := client.ControllerRevisions.Create(ctx, o.Client, r)
		if !apierrors.IsAlreadyExists(err) {
			return stored, collisions, err
		}
		there, err := client.ControllerRevisions.Get(ctx, o.Client, r.Namespace, name)
		if err != nil {
			return nil, collisions, err
		}
		if metav1.IsControlledBy(there, o.Object) && same(there.Data.Raw, data) {
			return there, collisions, nil
		}
		count := int32(1)
		if collisions != nil {
			count = *collisions + 1
		}
		collisions = &count
	}
}

// Trim deletes the oldest revisions that aren't in use, beyond limit.
func (o *Owner) Trim(ctx context.Context, list []*appsv1.ControllerRevision, limit int32, inUse func(*appsv1.ControllerRevision) bool) error {
	var idle []*appsv1.ControllerRevision
	for _, r := range list {
		if !inUse(r) {
			idle = append(idle, r)
		}
	}
	for len(idle) > int(limit) {
		r := idle[0]
		idle = idle[1:]
		err := client.ControllerRevisions.Delete(ctx, o.Client, r.Namespace, r.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete revision %s: %w", r.Name, err)
		}
	}
	return nil
}

// Name joins an owner's name and a hash, within the length that names may have.
func Name(owner, hash string) string {
	const most = 223
	if len(owner) > most {
		owner = owner[:most]
	}
	return owner + "-" + hash
}
