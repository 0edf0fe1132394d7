package replicaset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
)

// kind is what tells ReplicaSets and ReplicationControllers apart.
type kind struct {
	name      string // the controller's
	component string // in events
	gvk       schema.GroupVersionKind
	gvr       schema.GroupVersionResource
	output    string
	// read makes a ReplicaSet of an object; it may be the object itself.
	read func(client.Object) *appsv1.ReplicaSet
	// write stores the status of what read made.
	write func(ctx context.Context, c client.Client, rs *appsv1.ReplicaSet) error
}

var replicaSets = kind{
	name:      "replicaset",
	component: "replicaset-controller",
	gvk:       appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
	gvr:       client.ReplicaSets.GVR,
	output:    "apps/replicasets/status",
	read:      func(o client.Object) *appsv1.ReplicaSet { return o.(*appsv1.ReplicaSet) },
	write: func(ctx context.Context, c client.Client, rs *appsv1.ReplicaSet) error {
		_, err := client.ReplicaSets.UpdateStatus(ctx, c, rs)
		return err
	},
}

var replicationControllers = kind{
	name:      "replicationmanager",
	component: "replication-controller",
	gvk:       corev1.SchemeGroupVersion.WithKind("ReplicationController"),
	gvr:       client.ReplicationControllers.GVR,
	output:    "replicationcontrollers/status",
	read: func(o client.Object) *appsv1.ReplicaSet {
		return fromReplicationController(o.(*corev1.ReplicationController))
	},
	write: func(ctx context.Context, c client.Client, rs *appsv1.ReplicaSet) error {
		_, err := client.ReplicationControllers.UpdateStatus(ctx, c, toReplicationController(rs))
		return err
	},
}

// fromReplicationController shares memory with rc, which is read-only.
func fromReplicationController(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec:       appsv1.ReplicaSetSpec{Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas, ReadyReplicas: rc.Status.ReadyReplicas,
			AvailableReplicas: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Selector != nil {
		rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}
	}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	for _, c := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetConditionType(c.Type),
			Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message})
	}
	return rs
}

// toReplicationController makes the object for a status update, which ignores the spec.
func toReplicationController(rs *appsv1.ReplicaSet) *corev1.ReplicationController {
	rc := &corev1.ReplicationController{
		ObjectMeta: rs.ObjectMeta,
		Spec:       corev1.ReplicationControllerSpec{Replicas: rs.Spec.Replicas, MinReadySeconds: rs.Spec.MinReadySeconds, Template: &rs.Spec.Template},
		Status: corev1.ReplicationControllerStatus{
			Replicas: rs.Status.Replicas, FullyLabeledReplicas: rs.Status.FullyLabeledReplicas, ReadyReplicas: rs.Status.ReadyReplicas,
			AvailableReplicas: rs.Status.AvailableReplicas, ObservedGeneration: rs.Status.ObservedGeneration,
		},
	}
	if rs.Spec.Selector != nil {
		rc.Spec.Selector = rs.Spec.Selector.MatchLabels
	}
	for _, c := range rs.Status.Conditions {
		rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{Type: corev1.ReplicationControllerConditionType(c.Type),
			Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message})
	}
	return rc
}
