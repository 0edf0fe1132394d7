package kubelet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/downward"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// volumeHost gives volumes the objects that they name.
type volumeHost Kubelet

func (h *volumeHost) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return h.objects.ConfigMap(ctx, namespace, name)
}

func (h *volumeHost) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return h.objects.Secret(ctx, namespace, name)
}

func (h *volumeHost) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return client.PersistentVolumeClaims.Get(ctx, h.cfg.Client, namespace, name)
}

func (h *volumeHost) PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return client.PersistentVolumes.Get(ctx, h.cfg.Client, "", name)
}

func (h *volumeHost) Token(ctx context.Context, pod *corev1.Pod, t *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	return h.tokens.get(ctx, pod, t)
}

func (h *volumeHost) Node(pod *corev1.Pod) downward.Node {
	return downward.Node{HostIPs: h.hostIPs, PodIPs: podIPs(pod), Allocatable: h.allocatable}
}

func podIPs(pod *corev1.Pod) []string {
	var out []string
	for _, ip := range pod.Status.PodIPs {
		out = append(out, ip.IP)
	}
	return out
}

// tokens are the service account tokens of the node's pods.
type tokens struct {
	client client.Client

	mu   sync.Mutex
	held map[tokenKey]heldToken
}

type tokenKey struct {
	uid      types.UID
	audience string
	seconds  int64
}

type heldToken struct {
	token            string
	refresh, expires time.Time
}

// longestTokenUse is after what time a token is replaced in any case.
const longestTokenUse = 24 * time.Hour

func newTokens(c client.Client) *tokens { return &tokens{client: c, held: map[tokenKey]heldToken{}} }

// get returns a token that has at least a fifth of its life before it, or, while none can be had, one that is still valid.
func (t *tokens) get(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	held, err := t.hold(ctx, pod, p)
	return held.token, held.refresh, err
}

// status is get for those who pass a token on with its end.
func (t *tokens) status(ctx context.Context, pod *corev1.Pod, audience string, seconds *int64) (authenticationv1.TokenRequestStatus, error) {
	held, err := t.hold(ctx, pod, &corev1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: seconds})
	return authenticationv1.TokenRequestStatus{Token: held.token, ExpirationTimestamp: metav1.NewTime(held.expires)}, err
}

func (t *tokens) hold(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (heldToken, error) {
	if lifecycle.IsStatic(pod) {
		return heldToken{}, errors.New("a static pod has no service account")
	}
	key := tokenKey{uid: pod.UID, audience: p.Audience}
	if p.ExpirationSeconds != nil {
		key.seconds = *p.ExpirationSeconds
	}
	now := time.Now()
	t.mu.Lock()
	have, ok := t.held[key]
	t.mu.Unlock()
	if ok && now.Before(have.refresh) {
		return have, nil
	}
	fresh, err := t.request(ctx, pod, p)
	if err != nil {
		if ok && now.Before(have.expires) {
			have.refresh = now.Add(time.Minute)
			return have, nil
		}
		return heldToken{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	t.mu.Lock()
	t.held[key] = fresh
	t.mu.Unlock()
	return fresh, nil
}

func (t *tokens) request(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (heldToken, error) {
	asked := time.Now()
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: p.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if p.Audience != "" {
		req.Spec.Audiences = []string{p.Audience}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	resp, err := client.ServiceAccounts.CreateSub(ctx, t.client, pod.Namespace, account, "token", req)
	if err != nil {
		return heldToken{}, err
	}
	got, ok := resp.(*authenticationv1.TokenRequest)
	if !ok {
		return heldToken{}, fmt.Errorf("the API answered with a %T", resp)
	}
	expires := got.Status.ExpirationTimestamp.Time
	life := expires.Sub(asked)
	refresh := asked.Add(min(life*4/5, longestTokenUse))
	return heldToken{token: got.Status.Token, refresh: refresh, expires: expires}, nil
}

func (t *tokens) forget(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.held {
		if key.uid == uid {
			delete(t.held, key)
		}
	}
}

// servicesWait bounds how long a pod's start waits for the services to be known for the first time.
const servicesWait = 10 * time.Second

// serviceEnv returns the variables that tell a pod of services.
func (k *Kubelet) serviceEnv(ctx context.Context, pod *corev1.Pod) ([]criconfig.EnvVar, error) {
	ctx, cancel := context.WithTimeout(ctx, servicesWait)
	defer cancel()
	if err := k.services.View.WaitFor(ctx, 0); err != nil && !lifecycle.IsStatic(pod) {
		return nil, errors.New("services have not yet been read at least once, cannot construct envvars")
	}
	list := k.services.List(metav1.NamespaceDefault, nil)
	if pod.Namespace != metav1.NamespaceDefault && (pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks) {
		list = slices.Concat(list, k.services.List(pod.Namespace, nil))
	}
	return criconfig.ServiceEnv(pod, list), nil
}

// pullSecrets returns the pod's pull secrets; those that cannot be read are told of and left out.
func (k *Kubelet) pullSecrets(ctx context.Context, pod *corev1.Pod) []*corev1.Secret {
	var out []*corev1.Secret
	var failed []string
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		s, err := k.objects.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			failed = append(failed, ref.Name)
			continue
		}
		out = append(out, s)
	}
	if len(failed) > 0 {
		k.events.Eventf(criconfig.PodReference(pod), corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(failed, ", "))
	}
	return out
}
