package csi

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// growth is what is to be done about a volume that may have grown.
type growth int

const (
	grown    growth = iota // nothing
	growHere               // on this node alone: the claim has its size
	grow                   // and the claim is to say so
)

// planGrowth decides by what the claim says that the resizer has done.
func planGrowth(v *volume, here int64) growth {
	if v.claim == nil {
		return grown
	}
	have := v.claim.Status.Capacity[corev1.ResourceStorage]
	switch v.claim.Status.AllocatedResourceStatuses[corev1.ResourceStorage] {
	case corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress:
		return grow
	case "":
		// What many nodes use grows on each; the first of them has told the claim.
		shared := slices.Contains(v.claim.Spec.AccessModes, corev1.ReadWriteMany)
		if shared && here != 0 && here < v.capacity && have.Value() >= v.capacity {
			return growHere
		}
	}
	return grown
}

// expand lets the file system of a volume that has grown fill it, and tells the claim.
func (p *Plugin) expand(ctx context.Context, d *driver, v *volume, r *volumes.Request, pub *publication) error {
	todo := planGrowth(v, pub.size)
	if todo == grown || v.readOnly {
		pub.size = max(pub.size, v.capacity)
		return nil
	}
	if todo == growHere && !d.expands() {
		pub.size = v.capacity
		return nil
	}
	claim := v.claim
	var err error
	if todo == grow {
		if claim, err = p.setClaim(ctx, claim, func(s *corev1.PersistentVolumeClaimStatus) {
			s.AllocatedResourceStatuses[corev1.ResourceStorage] = corev1.PersistentVolumeClaimNodeResizeInProgress
		}); err != nil {
			return fmt.Errorf("MountVolume.NodeExpandVolume failed to mark node expansion in progress: %w", err)
		}
	}
	if err := p.callExpand(ctx, d, v, pub); err != nil {
		return p.expandFailed(ctx, v, r, claim, err)
	}
	pub.size = v.capacity
	message := fmt.Sprintf("MountVolume.NodeExpandVolume succeeded for volume %q %s", v.name, p.cfg.NodeName)
	p.cfg.Events.Event(criconfig.PodReference(r.Pod), corev1.EventTypeNormal, "FileSystemResizeSuccessful", message)
	p.cfg.Events.Event(claim, corev1.EventTypeNormal, "FileSystemResizeSuccessful", message)
	if todo == growHere {
		return nil
	}
	_, err = p.setClaim(ctx, claim, func(s *corev1.PersistentVolumeClaimStatus) { finish(s, r.PV.Spec.Capacity[corev1.ResourceStorage]) })
	if err != nil {
		return fmt.Errorf("mountVolume.NodeExpandVolume update pvc status failed: %w", err)
	}
	return nil
}

func (p *Plugin) callExpand(ctx context.Context, d *driver, v *volume, pub *publication) error {
	if !d.expands() {
		return status.Errorf(codes.Unimplemented, "NodeExpand is not supported by the CSI driver %s", v.driver)
	}
	secrets, err := p.secrets(ctx, v.expandSecret)
	if err != nil {
		return fmt.Errorf("expander.NodeExpand failed to get NodeExpandSecretRef %s/%s: %w", v.expandSecret.Namespace, v.expandSecret.Name, err)
	}
	req := &csipb.NodeExpandVolumeRequest{
		VolumeId: v.handle, VolumePath: pub.mounted.Path + pub.mounted.Device, CapacityRange: &csipb.CapacityRange{RequiredBytes: v.capacity},
		VolumeCapability: v.capability(d, nil), Secrets: secrets,
	}
	if d.stages() {
		req.StagingTargetPath = filepath.Join(p.usedDir(v.driver, v.handle), stageName)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = d.node.NodeExpandVolume(call, req)
	return err
}

// expandFailed tells the claim why it hasn't grown. One that the driver will not expand while it's in use doesn't keep the pod from starting.
func (p *Plugin) expandFailed(ctx context.Context, v *volume, r *volumes.Request, claim *corev1.PersistentVolumeClaim, cause error) error {
	code := status.Code(cause)
	if code == codes.DeadlineExceeded || code == codes.Canceled || code == codes.Unavailable || code == codes.Aborted {
		return cause // who knows: it's tried again
	}
	_, err := p.setClaim(ctx, claim, func(s *corev1.PersistentVolumeClaimStatus) {
		condition := corev1.PersistentVolumeClaimCondition{
			Type: corev1.PersistentVolumeClaimNodeResizeError, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
			Message: fmt.Sprintf("failed to expand pvc with %v", cause),
		}
		s.Conditions = append(conditions(s, corev1.PersistentVolumeClaimNodeResizeError), condition)
		if infeasible(code) {
			s.AllocatedResourceStatuses[corev1.ResourceStorage] = corev1.PersistentVolumeClaimNodeResizeInfeasible
		}
	})
	p.cfg.Events.Event(criconfig.PodReference(r.Pod), corev1.EventTypeWarning, "VolumeResizeFailed",
		fmt.Sprintf("NodeExpandVolume.NodeExpandVolume failed for volume %q : Expander.NodeExpand failed to expand the volume : %v", v.name, cause))
	if code == codes.FailedPrecondition {
		return err
	}
	return errors.Join(fmt.Errorf("Expander.NodeExpand failed to expand the volume : %w", cause), err)
}

func infeasible(code codes.Code) bool {
	return code == codes.InvalidArgument || code == codes.OutOfRange || code == codes.NotFound || code == codes.Unimplemented
}

// finish says that a claim has its size.
func finish(s *corev1.PersistentVolumeClaimStatus, size resource.Quantity) {
	if s.Capacity == nil {
		s.Capacity = corev1.ResourceList{}
	}
	s.Capacity[corev1.ResourceStorage] = size
	delete(s.AllocatedResourceStatuses, corev1.ResourceStorage)
	if len(s.AllocatedResourceStatuses) == 0 {
		s.AllocatedResourceStatuses = nil
	}
	s.Conditions = conditions(s, corev1.PersistentVolumeClaimResizing, corev1.PersistentVolumeClaimFileSystemResizePending,
		corev1.PersistentVolumeClaimControllerResizeError, corev1.PersistentVolumeClaimNodeResizeError)
}

// conditions lists those of other types than given.
func conditions(s *corev1.PersistentVolumeClaimStatus, types ...corev1.PersistentVolumeClaimConditionType) []corev1.PersistentVolumeClaimCondition {
	return slices.DeleteFunc(slices.Clone(s.Conditions), func(c corev1.PersistentVolumeClaimCondition) bool { return slices.Contains(types, c.Type) })
}

// setClaim changes a claim's status, looking anew whenever somebody else has.
func (p *Plugin) setClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, change func(*corev1.PersistentVolumeClaimStatus)) (*corev1.PersistentVolumeClaim, error) {
	var err error
	for range writeAttempts {
		next := claim.DeepCopy()
		if next.Status.AllocatedResourceStatuses == nil {
			next.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{}
		}
		change(&next.Status)
		var written *corev1.PersistentVolumeClaim
		if written, err = client.PersistentVolumeClaims.UpdateStatus(ctx, p.cfg.Client, next); err == nil {
			return written, nil
		}
		if !apierrors.IsConflict(err) {
			return claim, err
		}
		if claim, err = client.PersistentVolumeClaims.Get(ctx, p.cfg.Client, next.Namespace, next.Name); err != nil {
			return next, err
		}
	}
	return claim, err
}
