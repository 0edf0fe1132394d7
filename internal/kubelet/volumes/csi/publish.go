package csi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"clipper.dev/clipper/internal/kubelet/volumes"
)

// publish asks the driver to make a volume appear for a pod.
func (p *Plugin) publish(ctx context.Context, t *task, published map[string]string) error {
	secrets, err := p.secrets(ctx, t.v.publishSecret)
	if err != nil {
		return fmt.Errorf("fetching NodePublishSecretRef %s/%s failed: %w", t.v.publishSecret.Namespace, t.v.publishSecret.Name, err)
	}
	attributes := maps.Clone(t.v.attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	if t.info != nil && t.info.Spec.PodInfoOnMount != nil && *t.info.Spec.PodInfoOnMount {
		maps.Copy(attributes, podInfo(t.r.Pod, t.v.mode))
	}
	if secrets, err = p.addTokens(ctx, t, attributes, secrets); err != nil {
		return fmt.Errorf("kubernetes.io/csi: mounter.SetUpAt failed to get service accoount token attributes: %w", err)
	}
	target := filepath.Join(t.r.Dir, mountName)
	req := &csipb.NodePublishVolumeRequest{
		VolumeId: t.v.handle, PublishContext: published, TargetPath: target, VolumeCapability: t.v.capability(t.d, t.r.FSGroup),
		Readonly: t.v.readOnly, Secrets: secrets, VolumeContext: attributes,
	}
	if t.v.mode == storagev1.VolumeLifecyclePersistent && t.d.stages() {
		req.StagingTargetPath = filepath.Join(p.usedDir(t.v.driver, t.v.handle), stageName)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := t.d.node.NodePublishVolume(call, req); err != nil {
		return t.publishError(err)
	}
	if t.again || t.d.groups() || t.r.FSGroup == nil || !t.v.ownedByGroup(t.info) {
		return nil
	}
	if err := volumes.ChownGroup(target, t.r.FSGroup, volumes.ChangePolicy(t.r.Pod), false); err != nil {
		return fmt.Errorf("applyFSGroup failed for vol %s: %w", t.v.handle, err)
	}
	return nil
}

func (t *task) publishError(err error) error {
	if t.v.block {
		return &volumes.StepError{Step: "MapVolume.SetUpDevice", Err: err}
	}
	return err
}

// podInfo tells a driver for which pod a volume is.
func podInfo(pod *corev1.Pod, mode storagev1.VolumeLifecycleMode) map[string]string {
	return map[string]string{
		"csi.storage.k8s.io/pod.name":            pod.Name,
		"csi.storage.k8s.io/pod.namespace":       pod.Namespace,
		"csi.storage.k8s.io/pod.uid":             string(pod.UID),
		"csi.storage.k8s.io/serviceAccount.name": pod.Spec.ServiceAccountName,
		"csi.storage.k8s.io/ephemeral":           strconv.FormatBool(mode == storagev1.VolumeLifecycleEphemeral),
	}
}

const tokensKey = "csi.storage.k8s.io/serviceAccount.tokens"

// addTokens gives a driver the tokens that it asks for, among the attributes or the secrets. It returns the latter.
func (p *Plugin) addTokens(ctx context.Context, t *task, attributes, secrets map[string]string) (map[string]string, error) {
	if t.info == nil || len(t.info.Spec.TokenRequests) == 0 {
		return secrets, nil
	}
	tokens := map[string]authenticationv1.TokenRequestStatus{}
	for _, r := range t.info.Spec.TokenRequests {
		token, err := p.cfg.Token(ctx, t.r.Pod, r.Audience, r.ExpirationSeconds)
		if err != nil {
			return nil, err
		}
		tokens[r.Audience] = token
	}
	text, err := json.Marshal(tokens)
	if err != nil {
		return nil, err
	}
	if t.info.Spec.ServiceAccountTokenInSecrets == nil || !*t.info.Spec.ServiceAccountTokenInSecrets {
		attributes[tokensKey] = string(text)
		return secrets, nil
	}
	secrets = maps.Clone(secrets)
	if secrets == nil {
		secrets = map[string]string{}
	}
	secrets[tokensKey] = string(text)
	return secrets, nil
}

// unpublish takes a volume from a pod. Its lock is held.
func (p *Plugin) unpublish(ctx context.Context, rec record, dir string) error {
	d, err := p.find(rec.Driver)
	if err != nil {
		return fmt.Errorf("kubernetes.io/csi: Unmounter.TearDownAt failed to get CSI client: %w", err)
	}
	target := filepath.Join(dir, mountName)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = d.node.NodeUnpublishVolume(call, &csipb.NodeUnpublishVolumeRequest{VolumeId: rec.Handle, TargetPath: target})
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("kubernetes.io/csi: Unmounter.TearDownAt failed: %w", err)
	}
	if err := p.removeTarget(target); err != nil {
		return fmt.Errorf("kubernetes.io/csi: Unmounter.TearDownAt failed to clean mount dir [%s]: %w", target, err)
	}
	return removeRecord(dir)
}
