package kubelet

import (
	"context"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/follow"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// nodeNameField selects a node's pods.
const nodeNameField = "spec.nodeName"

// followAPI takes in the API's pods of this node until ctx ends. complete is called once all that were there at first are taken in.
func (k *Kubelet) followAPI(ctx context.Context, complete func()) error {
	view, err := k.cfg.Client.View(ctx, client.Pods.GVR, client.Selection{Field: nodeNameField, Value: k.cfg.NodeName})
	if err != nil {
		return fmt.Errorf("watch pods of node %s: %w", k.cfg.NodeName, err)
	}
	follower := follow.New(view, k.podChanged)
	ended := make(chan error, 1)
	go func() { ended <- follower.Run(ctx) }()
	if err := follow.Complete(ctx, follower); err == nil {
		complete()
	}
	err = <-ended
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch pods of node %s: %w", k.cfg.NodeName, err)
}

func (k *Kubelet) podChanged(c client.Change) {
	var old, now *corev1.Pod
	if c.Old != nil {
		old = c.Old.Object().(*corev1.Pod)
	}
	if c.New != nil {
		now = c.New.Object().(*corev1.Pod)
	}
	if old != nil && (now == nil || now.UID != old.UID) {
		if isMirror(old) {
			k.pods.setMirror(fullName(old), nil)
		} else {
			k.pods.remove(old)
		}
	}
	switch {
	case now == nil:
	case isMirror(now):
		k.mirrorChanged(now)
	default:
		k.pods.update(now)
	}
}

func isMirror(pod *corev1.Pod) bool { return pod.Annotations[lifecycle.MirrorAnnotation] != "" }

// mirrorChanged takes in a mirror pod. One without its static pod, or of a former version of it, or that somebody deletes, is removed from the API; the
// static pod's next look makes it anew.
func (k *Kubelet) mirrorChanged(mirror *corev1.Pod) {
	static, ok := k.pods.find(mirror.Namespace, mirror.Name, "")
	if !k.staticReady() {
		k.pods.setMirror(fullName(mirror), mirror)
		return
	}
	if ok && mirror.DeletionTimestamp == nil && reflects(mirror, static.Pod) {
		k.pods.setMirror(fullName(mirror), mirror)
		return
	}
	k.statuses.set(mirror, mirror.Status, 0, true)
}

// ensureMirror creates the mirror of a static pod.
func (k *Kubelet) ensureMirror(ctx context.Context, static *corev1.Pod) error {
	mirror := static.DeepCopy()
	mirror.UID = ""
	mirror.ResourceVersion = ""
	mirror.Annotations[lifecycle.MirrorAnnotation] = mirror.Annotations[lifecycle.HashAnnotation]
	if node := k.node.Node(); node != nil {
		controller := true
		mirror.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: &controller}}
	}
	_, err := client.Pods.Create(ctx, k.cfg.Client, mirror)
	if err != nil {
		return fmt.Errorf("create mirror of static pod %s: %w", fullName(static), err)
	}
	return nil
}

// adoptOrphans ends what the runtime, the logs and the directories hold of pods that no source has.
func (k *Kubelet) adoptOrphans(ctx context.Context) {
	known, err := k.cri.List(ctx)
	if err != nil {
		k.logger.Warn("orphaned pods not looked for", "error", err)
		return
	}
	for uid, s := range known {
		if !k.pods.has(uid) {
			k.metrics.orphans.Inc()
			k.logger.Info("ending a pod that no source has", "pod", s.Namespace+"/"+s.Name, "uid", uid)
			k.pods.orphan(k.rebuild(ctx, s.Namespace, s.Name, uid))
		}
	}
	for uid, pod := range k.leftovers() {
		if !k.pods.has(uid) {
			k.pods.orphan(pod)
		}
	}
}

// leftovers are the pods of which there are logs or directories. Only the logs know their names. A pod's directory is there before its control group and
// goes after it; groups without one are another kubelet's.
func (k *Kubelet) leftovers() map[types.UID]*corev1.Pod {
	pods := map[types.UID]*corev1.Pod{}
	logs, err := os.ReadDir(k.cfg.Settings.PodLogsDir)
	if err != nil {
		k.logger.Warn("logs of pods that are gone not looked for", "error", err)
	}
	for _, dir := range logs {
		if parts := strings.Split(dir.Name(), "_"); len(parts) == 3 && dir.IsDir() {
			uid := types.UID(parts[2])
			pods[uid] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: parts[0], Name: parts[1], UID: uid}}
		}
	}
	dirs, _ := k.volumes.Pods() // what can't be listed now is looked for again later
	for _, uid := range dirs {
		if pods[uid] == nil {
			pods[uid] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: string(uid), UID: uid}}
		}
	}
	return pods
}

// rebuild makes a pod from what the runtime's labels and annotations tell: enough to end it as it wants to be ended.
func (k *Kubelet) rebuild(ctx context.Context, namespace, name string, uid types.UID) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid}}
	containers, err := k.cri.Annotations(ctx, uid)
	if err != nil {
		k.logger.Warn("an orphaned pod's containers are ended without their hooks", "uid", uid, "error", err)
		return pod
	}
	for container, a := range containers {
		c := corev1.Container{Name: container, Ports: a.Ports}
		if a.PreStop != nil {
			c.Lifecycle = &corev1.Lifecycle{PreStop: a.PreStop}
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
		if a.TerminationGracePeriod != nil {
			pod.Spec.TerminationGracePeriodSeconds = a.TerminationGracePeriod
		}
	}
	return pod
}
