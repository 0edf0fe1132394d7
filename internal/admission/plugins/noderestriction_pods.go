package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/authz/node"
)

// pod lets a node write its mirror pods and the status of its pods.
func (p *NodeRestriction) pod(name string, r *admission.Request) error {
	switch r.Subresource {
	case "":
		switch r.Operation {
		case admission.Create:
			return p.createPod(name, r)
		case admission.Delete:
			pod, err := p.storedPod(r, r.Name)
			if err != nil {
				return err
			}
			if pod.Spec.NodeName != name {
				return forbidf(r, "node %q can only delete pods with spec.nodeName set to itself", name)
			}
			return nil
		}
		return forbidf(r, "unexpected operation %q, node %q can only create and delete mirror pods", r.Operation, name)
	case "status":
		return restrictStatus(name, r)
	case "eviction":
		return p.evict(name, r)
	}
	return forbidf(r, "unexpected pod subresource %q, only 'status' and 'eviction' are allowed", r.Subresource)
}

func (p *NodeRestriction) storedPod(r *admission.Request, name string) (*corev1.Pod, error) {
	pod, ok := p.views.pods.Get(r.Namespace, name)
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("pod"), name)
	}
	return pod, nil
}

// createPod lets a node create mirror pods of its own that reach nothing else.
func (p *NodeRestriction) createPod(name string, r *admission.Request) error {
	pod, err := as[*corev1.Pod](r, r.Object)
	if err != nil {
		return err
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return forbidf(r, "pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, name)
	}
	if pod.Spec.NodeName != name {
		return forbidf(r, "node %q can only create pods with spec.nodeName set to itself", name)
	}
	if err := p.mirrorOwner(name, r, pod); err != nil {
		return err
	}
	what, err := referenced(pod)
	if err != nil {
		return forbidf(r, "error checking mirror pod for API references: %w", err)
	}
	if what != "" {
		return forbidf(r, "node %q can not create pods that reference %s", name, what)
	}
	return nil
}

// mirrorOwner checks that a mirror pod belongs to its node.
func (p *NodeRestriction) mirrorOwner(name string, r *admission.Request, pod *corev1.Pod) error {
	if len(pod.OwnerReferences) > 1 {
		return forbidf(r, "node %q can only create pods with a single owner reference set to itself", name)
	}
	if len(pod.OwnerReferences) == 0 {
		return forbidf(r, "node %q can only create pods with an owner reference set to itself", name)
	}
	owner := pod.OwnerReferences[0]
	if owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != name {
		return forbidf(r, "node %q can only create pods with an owner reference set to itself", name)
	}
	if owner.Controller == nil || !*owner.Controller {
		return forbidf(r, "node %q can only create pods with a controller owner reference set to itself", name)
	}
	if owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion {
		return forbidf(r, "node %q must not set blockOwnerDeletion on an owner reference", name)
	}
	n, ok := p.views.nodes.Get("", name)
	if !ok {
		return apierrors.NewNotFound(corev1.Resource("node"), name)
	}
	if owner.UID != n.UID {
		return forbidf(r, "node %s UID mismatch: expected %s got %s", name, owner.UID, n.UID)
	}
	return nil
}

// referenced names a kind of API object that a pod reaches, or "".
func referenced(pod *corev1.Pod) (string, error) {
	if pod.Spec.ServiceAccountName != "" {
		return "serviceaccounts", nil
	}
	for range node.Secrets(pod) {
		return "secrets", nil
	}
	for range node.ConfigMaps(pod) {
		return "configmaps", nil
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return "resourceclaims", nil
	}
	for i := range pod.Spec.Volumes {
		if what, err := volumeReference(&pod.Spec.Volumes[i]); what != "" || err != nil {
			return what, err
		}
	}
	return "", nil
}

func volumeReference(v *corev1.Volume) (string, error) {
	switch {
	case v.ConfigMap != nil:
		return "configmaps (via configmap volumes)", nil
	case v.Secret != nil:
		return "secrets (via secret volumes)", nil
	case v.CSI != nil:
		return "csidrivers (via CSI volumes)", nil
	case v.Glusterfs != nil:
		return "endpoints (via glusterFS volumes)", nil
	case v.PersistentVolumeClaim != nil:
		return "persistentvolumeclaims", nil
	case v.Ephemeral != nil:
		return "persistentvolumeclaims (via ephemeral volumes)", nil
	case v.AzureFile != nil:
		return "secrets (via azureFile volumes)", nil
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			switch {
			case s.ConfigMap != nil:
				return "configmaps (via projected volumes)", nil
			case s.Secret != nil:
				return "secrets (via projected volumes)", nil
			case s.ServiceAccountToken != nil:
				return "serviceaccounts (via projected volumes)", nil
			case s.ClusterTrustBundle != nil:
				return "clustertrustbundles", nil
			case s.PodCertificate != nil:
				return "podcertificates", nil
			case s.DownwardAPI == nil:
				return "", fmt.Errorf("unknown source for projected volume %q", v.Name)
			}
		}
		return "", nil
	}
	if equality.Semantic.DeepEqual(v.VolumeSource, corev1.VolumeSource{}) {
		return "", fmt.Errorf("unknown volume type for volume  %q", v.Name)
	}
	return "", nil
}

func restrictStatus(name string, r *admission.Request) error {
	if r.Operation != admission.Update {
		return forbidf(r, "unexpected operation %q", r.Operation)
	}
	old, err := as[*corev1.Pod](r, r.OldObject)
	if err != nil {
		return err
	}
	if old.Spec.NodeName != name {
		return forbidf(r, "node %q can only update pod status for pods with spec.nodeName set to itself", name)
	}
	pod, err := as[*corev1.Pod](r, r.Object)
	if err != nil {
		return err
	}
	if !labels.Equals(old.Labels, pod.Labels) {
		return forbidf(r, "node %q cannot update labels through pod status", name)
	}
	if !equality.Semantic.DeepEqual(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses) {
		return forbidf(r, "node %q cannot update resource claim statues", name)
	}
	if !equality.Semantic.DeepEqual(old.Status.ExtendedResourceClaimStatus, pod.Status.ExtendedResourceClaimStatus) {
		return forbidf(r, "node %q cannot update extended resource claim status", name)
	}
	return nil
}

func (p *NodeRestriction) evict(name string, r *admission.Request) error {
	if r.Operation != admission.Create {
		return forbidf(r, "unexpected operation %s", r.Operation)
	}
	podName := r.Name
	if podName == "" {
		eviction, err := as[*policyv1.Eviction](r, r.Object)
		if err != nil {
			return err
		}
		if podName = eviction.Name; podName == "" {
			return forbidf(r, "could not determine pod from request data")
		}
	}
	pod, err := p.storedPod(r, podName)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName != name {
		return forbidf(r, "node %s can only evict pods with spec.nodeName set to itself", name)
	}
	return nil
}
