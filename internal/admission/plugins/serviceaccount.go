package plugins

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/authz/node"
	"clipper.dev/clipper/internal/client"
)

// ServiceAccount gives pods their service account and its token, and checks that the account exists.
type ServiceAccount struct {
	client client.Client
	views  *views
}

var (
	_ admission.Mutator   = (*ServiceAccount)(nil)
	_ admission.Validator = (*ServiceAccount)(nil)
)

const (
	defaultAccount  = "default"
	tokenVolume     = "kube-api-access-"
	tokenMountPath  = "/var/run/secrets/kubernetes.io/serviceaccount"
	rootCAConfigMap = "kube-root-ca.crt"
	// tokenSeconds is an hour, and the seven seconds by which the server recognizes tokens that it may extend.
	tokenSeconds = 60*60 + 7
	// defaultAccountWait is how long a pod waits for the default account of a namespace that was just made.
	defaultAccountWait = 2 * time.Second

	enforceMountableSecrets = "kubernetes.io/enforce-mountable-secrets"
)

// Name implements admission.Plugin.
func (*ServiceAccount) Name() string { return "ServiceAccount" }

// Handles implements admission.Selective.
func (*ServiceAccount) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Admit implements admission.Mutator.
func (p *ServiceAccount) Admit(ctx context.Context, r *admission.Request) error {
	pod := podOf(r)
	if pod == nil || r.Operation != admission.Create || r.Subresource != "" {
		return nil
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return validateMirror(r, pod) // a kubelet deletes a mirror pod that differs from what it wrote
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	sa, err := p.account(ctx, r.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return forbidf(r, "error looking up service account %s/%s: %w", r.Namespace, pod.Spec.ServiceAccountName, err)
	}
	if automounts(sa, pod) {
		mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		for _, ref := range sa.ImagePullSecrets {
			pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: ref.Name})
		}
	}
	return p.Validate(ctx, r)
}

// Validate implements admission.Validator.
func (p *ServiceAccount) Validate(ctx context.Context, r *admission.Request) error {
	pod := podOf(r)
	ephemeral := r.Operation == admission.Update && r.Subresource == "ephemeralcontainers"
	if pod == nil || !ephemeral && (r.Operation != admission.Create || r.Subresource != "") {
		return nil
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror && !ephemeral {
		return validateMirror(r, pod)
	}
	if pod.Spec.ServiceAccountName == "" {
		return forbidf(r, "no service account specified for pod %s/%s", r.Namespace, pod.Name)
	}
	sa, err := p.account(ctx, r.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return forbidf(r, "error looking up service account %s/%s: %w", r.Namespace, pod.Spec.ServiceAccountName, err)
	}
	if enforce, _ := strconv.ParseBool(sa.Annotations[enforceMountableSecrets]); !enforce {
		return nil
	}
	if ephemeral {
		if err := limitEphemeral(sa, pod); err != nil {
			return apierrors.NewInternalError(err)
		}
		return nil
	}
	if err := limitSecrets(sa, pod); err != nil {
		return forbid(r, err)
	}
	return nil
}

// podOf returns the pod that a request is about, or nil.
func podOf(r *admission.Request) *corev1.Pod {
	if r.Resource.Group != "" || r.Resource.Resource != "pods" {
		return nil
	}
	pod, _ := r.Object.(*corev1.Pod)
	return pod
}

func validateMirror(r *admission.Request, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return forbidf(r, "a mirror pod may not reference service accounts")
	}
	for range node.Secrets(pod) {
		return forbidf(r, "a mirror pod may not reference secrets")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				return forbidf(r, "a mirror pod may not use ServiceAccountToken volume projections")
			}
		}
	}
	return nil
}

// account finds a service account; for the default one of a new namespace it waits a little until the controller has made it.
func (p *ServiceAccount) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	if sa, ok := p.views.accounts.Get(namespace, name); ok {
		return sa, nil
	}
	if err := unaskable(name); err != nil {
		return nil, err
	}
	sa, err := client.ServiceAccounts.Get(ctx, p.client, namespace, name)
	if err == nil || !apierrors.IsNotFound(err) {
		return sa, err
	}
	if name == defaultAccount {
		if sa := p.await(ctx, namespace, name); sa != nil {
			return sa, nil
		}
	}
	return nil, apierrors.NewNotFound(corev1.Resource("serviceaccount"), name)
}

// await returns the account once it appears, or nil when the wait is over.
func (p *ServiceAccount) await(ctx context.Context, namespace, name string) *corev1.ServiceAccount {
	ctx, cancel := context.WithTimeout(ctx, defaultAccountWait)
	defer cancel()
	view, err := client.ServiceAccounts.View(ctx, p.client, client.Selection{Namespace: namespace, Name: name})
	if err != nil {
		return nil
	}
	var found *corev1.ServiceAccount
	_ = view.Subscribe(ctx, func(_, now *corev1.ServiceAccount) {
		if now != nil {
			found = now
			cancel()
		}
	})
	return found
}

// automounts tells whether a pod gets a token: its own wish counts first, then its account's.
func automounts(sa *corev1.ServiceAccount, pod *corev1.Pod) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return sa.AutomountServiceAccountToken == nil || *sa.AutomountServiceAccountToken
}

// mountToken mounts the token volume into every container that has nothing at its path.
func mountToken(pod *corev1.Pod) {
	name, exists := "", false
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, tokenVolume) {
			name, exists = v.Name, true
			break
		}
	}
	if name == "" {
		name = tokenVolume + rand.String(5)
	}
	mount := corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath}
	needed := addMounts(pod.Spec.InitContainers, mount)
	needed = addMounts(pod.Spec.Containers, mount) || needed
	if needed && !exists {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenSource()}})
	}
}

func addMounts(containers []corev1.Container, mount corev1.VolumeMount) bool {
	added := false
next:
	for i := range containers {
		for _, m := range containers[i].VolumeMounts {
			if m.MountPath == tokenMountPath {
				continue next
			}
		}
		containers[i].VolumeMounts = append(containers[i].VolumeMounts, mount)
		added = true
	}
	return added
}

// tokenSource is the token, the cluster's authority, and the namespace.
func tokenSource() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](tokenSeconds)}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path:     "namespace",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}

// limitSecrets refuses a pod that uses Secrets which its account doesn't list.
func limitSecrets(sa *corev1.ServiceAccount, pod *corev1.Pod) error {
	listed := mountable(sa)
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil && !listed[v.Secret.SecretName] {
			return fmt.Errorf("volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", v.Secret.SecretName, sa.Name)
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if err := limitEnv("init container", c.Name, c.Env, c.EnvFrom, sa, listed); err != nil {
			return err
		}
	}
	for _, c := range pod.Spec.Containers {
		if err := limitEnv("container", c.Name, c.Env, c.EnvFrom, sa, listed); err != nil {
			return err
		}
	}
	pull := map[string]bool{}
	for _, ref := range sa.ImagePullSecrets {
		pull[ref.Name] = true
	}
	for i, ref := range pod.Spec.ImagePullSecrets {
		if !pull[ref.Name] {
			return fmt.Errorf("imagePullSecrets[%d].name=%q is not allowed because service account %s does not reference that imagePullSecret", i, ref.Name, sa.Name)
		}
	}
	return nil
}

func limitEphemeral(sa *corev1.ServiceAccount, pod *corev1.Pod) error {
	listed := mountable(sa)
	for _, c := range pod.Spec.EphemeralContainers {
		if err := limitEnv("ephemeral container", c.Name, c.Env, c.EnvFrom, sa, listed); err != nil {
			return err
		}
	}
	return nil
}

func mountable(sa *corev1.ServiceAccount) map[string]bool {
	out := map[string]bool{}
	for _, ref := range sa.Secrets {
		out[ref.Name] = true
	}
	return out
}

func limitEnv(what, name string, env []corev1.EnvVar, from []corev1.EnvFromSource, sa *corev1.ServiceAccount, listed map[string]bool) error {
	for _, e := range env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !listed[e.ValueFrom.SecretKeyRef.Name] {
			return fmt.Errorf("%s %s with envVar %s referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", what, name, e.Name, e.ValueFrom.SecretKeyRef.Name, sa.Name)
		}
	}
	for _, e := range from {
		if e.SecretRef != nil && !listed[e.SecretRef.Name] {
			return fmt.Errorf("%s %s with envFrom referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", what, name, e.SecretRef.Name, sa.Name)
		}
	}
	return nil
}
