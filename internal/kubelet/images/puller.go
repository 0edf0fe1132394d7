package images

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/flowcontrol"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/kubelet/backoff"
	"clipper.dev/clipper/internal/kubelet/criconfig"
)

// Waiting reasons.
const (
	ReasonPull        = "ErrImagePull"
	ReasonBackOff     = "ImagePullBackOff"
	ReasonNeverPull   = "ErrImageNeverPull"
	ReasonInspect     = "ImageInspectError"
	ReasonInvalidName = "InvalidImageName"
	ReasonRegistry    = "RegistryUnavailable"
	ReasonSignature   = "SignatureValidationFailed"
)

// Error is why an image isn't there.
type Error struct {
	Reason, Message string
	// RetryAt is when trying again can help; zero is at once.
	RetryAt time.Time
}

func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// PullerConfig is what a Puller needs.
type PullerConfig struct {
	Images runtimeapi.ImageServiceClient
	Events *events.Recorder
	// Records remember with whose credentials images were pulled; nil lets every pod use what is there.
	Records *Records
	// Parallel bounds the pulls at a time; 0 is 5.
	Parallel int
	// Limiter tells whether one more pull may begin; nil is always.
	Limiter flowcontrol.PassiveRateLimiter
	// Now tells the time.
	Now     func() time.Time
	Metrics *Metrics
}

// Puller pulls images. Its methods may be called concurrently.
type Puller struct {
	cfg     PullerConfig
	slots   chan struct{}
	backoff *backoff.Tracker

	mu   sync.Mutex
	last map[string]string // the last failure for each key that's backed off
}

const defaultParallel = 5

// NewPuller returns a puller.
func NewPuller(cfg PullerConfig) *Puller {
	if cfg.Parallel == 0 {
		cfg.Parallel = defaultParallel
	}
	return &Puller{cfg: cfg, slots: make(chan struct{}, cfg.Parallel), backoff: backoff.New(10*time.Second, 5*time.Minute), last: map[string]string{}}
}

// Request asks for an image.
type Request struct {
	Pod *corev1.Pod
	// About is what events are recorded at: the container within the pod.
	About  *corev1.ObjectReference
	Image  string
	Policy corev1.PullPolicy
	// Secrets are the pod's pull secrets.
	Secrets []*corev1.Secret
	Sandbox *runtimeapi.PodSandboxConfig
	Handler string
}

// Image is an image that is present.
type Image struct {
	Ref  string // how containers name it to the runtime
	User criconfig.ImageUser
	Size uint64
	// Pulled is how long it took to be pulled; 0 if it was there.
	Pulled time.Duration
}

// Ensure returns the image, pulling it if the policy says so. Errors are of type *Error unless ctx ended.
func (p *Puller) Ensure(ctx context.Context, r Request) (Image, error) {
	name, err := withTag(r.Image)
	if err != nil {
		msg := fmt.Sprintf("Failed to apply default image tag %q: %v", r.Image, err)
		p.cfg.Events.Event(r.About, corev1.EventTypeWarning, "InspectFailed", msg)
		return Image{}, &Error{Reason: ReasonInvalidName, Message: msg}
	}
	spec := &runtimeapi.ImageSpec{Image: name, Annotations: r.Pod.Annotations, RuntimeHandler: r.Handler}
	present, required := unknown, unknown
	defer func() { p.cfg.Metrics.ensure(r.Policy, present, required) }()
	if r.Policy != corev1.PullAlways {
		image, err := p.inspect(ctx, spec)
		if err != nil {
			msg := fmt.Sprintf("Failed to inspect image %q: %v", r.Image, err)
			p.cfg.Events.Event(r.About, corev1.EventTypeWarning, "InspectFailed", msg)
			return Image{}, &Error{Reason: ReasonInspect, Message: msg}
		}
		usable := image.Ref != ""
		present = truth(usable)
		if usable {
			if usable, err = p.usable(ctx, &r, name, image.Ref); err != nil {
				return Image{}, err
			}
		}
		if usable {
			required = truth(false)
			p.cfg.Events.Eventf(r.About, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", r.Image)
			return image, nil
		}
		if r.Policy == corev1.PullNever {
			msg := fmt.Sprintf("Container image %q is not present with pull policy of Never", r.Image)
			p.cfg.Events.Event(r.About, corev1.EventTypeWarning, ReasonNeverPull, msg)
			return Image{}, &Error{Reason: ReasonNeverPull, Message: msg}
		}
	}
	required = truth(true)
	return p.pull(ctx, &r, spec)
}

// usable tells whether a pod may use an image that is there: else it has to show its registry that it may.
func (p *Puller) usable(ctx context.Context, r *Request, name, ref string) (bool, error) {
	if p.cfg.Records == nil {
		return true, nil
	}
	err := p.cfg.Records.recover(func() ([]*runtimeapi.Image, error) {
		resp, err := p.cfg.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
		return resp.GetImages(), err
	})
	if err != nil {
		return false, &Error{Reason: ReasonInspect, Message: err.Error()}
	}
	var offered []pullSecret
	for _, c := range Credentials(r.Secrets, name) {
		offered = append(offered, c.secret)
	}
	result := p.cfg.Records.check(name, ref, offered)
	p.cfg.Metrics.checked(result)
	return result.usable(), nil
}

// inspect returns a zero image when it isn't there.
func (p *Puller) inspect(ctx context.Context, spec *runtimeapi.ImageSpec) (Image, error) {
	resp, err := p.cfg.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil || resp.Image == nil {
		return Image{}, err
	}
	image := Image{Ref: resp.Image.Id, Size: resp.Image.Size}
	switch {
	case resp.Image.Uid != nil:
		image.User.UID = &resp.Image.Uid.Value
	case resp.Image.Username != "":
		image.User.Name = resp.Image.Username
	default:
		image.User.UID = new(int64)
	}
	return image, nil
}

func (p *Puller) pull(ctx context.Context, r *Request, spec *runtimeapi.ImageSpec) (Image, error) {
	key := string(r.Pod.UID) + "_" + r.Image
	if until := p.backoff.Until(key, p.cfg.Now()); !until.IsZero() {
		msg := fmt.Sprintf("Back-off pulling image %q", r.Image)
		p.cfg.Events.Event(r.About, corev1.EventTypeNormal, "BackOff", msg)
		p.mu.Lock()
		if last := p.last[key]; last != "" {
			msg += ": " + last
		}
		p.mu.Unlock()
		return Image{}, &Error{Reason: ReasonBackOff, Message: msg, RetryAt: until}
	}
	p.cfg.Events.Eventf(r.About, corev1.EventTypeNormal, "Pulling", "Pulling image %q", r.Image)
	begun := p.cfg.Now()
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
	started := p.cfg.Now()
	image, err := p.pullOnce(ctx, r, spec)
	<-p.slots
	now := p.cfg.Now()
	if ctx.Err() != nil {
		return Image{}, ctx.Err()
	}
	if err != nil {
		p.cfg.Events.Eventf(r.About, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", r.Image, err)
		failure := classify(r.Image, err)
		failure.RetryAt = p.backoff.Failed(key, now)
		p.mu.Lock()
		p.last[key] = failure.Reason + ": " + failure.Message
		p.mu.Unlock()
		return Image{}, failure
	}
	p.Forget(key)
	image.Pulled = now.Sub(begun)
	p.cfg.Metrics.pulled(image.Size, now.Sub(started))
	p.cfg.Events.Eventf(r.About, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
		r.Image, now.Sub(started).Truncate(time.Millisecond), now.Sub(begun).Truncate(time.Millisecond), image.Size)
	return image, nil
}

// Forget drops what is remembered of failures under a key.
func (p *Puller) Forget(key string) {
	p.backoff.Forget(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, key)
}

// ForgetPod drops what is remembered of a pod's failures.
func (p *Puller) ForgetPod(pod *corev1.Pod) {
	for _, name := range imagesOf(pod) {
		p.Forget(string(pod.UID) + "_" + name)
	}
}

func imagesOf(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.InitContainers {
		out = append(out, pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Spec.Containers {
		out = append(out, pod.Spec.Containers[i].Image)
	}
	for i := range pod.Spec.EphemeralContainers {
		out = append(out, pod.Spec.EphemeralContainers[i].Image)
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			out = append(out, v.Reference)
		}
	}
	return out
}

// pullOnce tries the credentials that match one after the other.
func (p *Puller) pullOnce(ctx context.Context, r *Request, spec *runtimeapi.ImageSpec) (pulled Image, _ error) {
	var with *pulledWith // nil until the pull has succeeded
	credentials := Credentials(r.Secrets, spec.Image)
	if len(credentials) == 0 {
		credentials = []Credential{{}}
	}
	if p.cfg.Records != nil {
		if err := p.cfg.Records.begin(spec.Image); err != nil {
			return Image{}, fmt.Errorf("Failed to record image pull intent for container image %q: %w", r.Image, err) //nolint:staticcheck // upstream's words
		}
		defer func() { p.record(spec.Image, pulled.Ref, with) }()
	}
	var errs []error
	for _, c := range credentials {
		if p.cfg.Limiter != nil && !p.cfg.Limiter.TryAccept() {
			errs = append(errs, errors.New("pull QPS exceeded"))
			break
		}
		resp, err := p.cfg.Images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: spec, Auth: c.Auth, SandboxConfig: r.Sandbox})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		image, err := p.inspect(ctx, spec)
		if err != nil {
			return Image{}, err
		}
		if image.Ref == "" {
			image.Ref = resp.ImageRef
		}
		with = &pulledWith{NodePodsAccessible: c.Auth == nil}
		if c.Auth != nil {
			with.KubernetesSecrets = []pullSecret{c.secret}
		}
		return image, nil
	}
	if len(errs) == 1 {
		return Image{}, errs[0]
	}
	return Image{}, errors.Join(errs...)
}

// record notes what has come of a pull.
func (p *Puller) record(image, ref string, with *pulledWith) {
	if with == nil {
		p.cfg.Records.failed(image)
		return
	}
	p.cfg.Records.done(image, ref, with)
}

// classify gives a runtime's error the waiting reason that upstream gives it.
func classify(image string, err error) *Error {
	text := err.Error()
	for reason, words := range map[string]string{
		ReasonRegistry:  "the registry is unavailable",
		ReasonSignature: "the signature validation failed",
	} {
		if rest, ok := strings.CutPrefix(text, reason); ok {
			return &Error{Reason: reason, Message: fmt.Sprintf("image pull failed for %s because %s%s", image, words, rest)}
		}
	}
	return &Error{Reason: ReasonPull, Message: text}
}

// withTag completes an image name that has neither tag nor digest.
func withTag(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image name %q: %w", image, err)
	}
	if reference.IsNameOnly(named) {
		return image + ":latest", nil
	}
	return image, nil
}
