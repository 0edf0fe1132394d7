package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/cri"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// syncRun carries out one plan. It works on what the worker knew when it began and leaves what it learns in out.
type syncRun struct {
	w        *worker
	k        *Kubelet
	pod      *corev1.Pod
	about    *corev1.ObjectReference
	observed *lifecycle.Observed
	plan     lifecycle.Plan
	unbound  bool // the pod's group is to be given its bounds
	crashes  map[string]lifecycle.Crash

	handler   string // of the runtime class
	sandboxID string
	sandbox   *runtimeapi.PodSandboxConfig
	users     *runtimeapi.UserNamespace
	ips       []string
	secrets   []*corev1.Secret
	volumes   map[string]volumes.Mounted
	out       outcome
}

func (w *worker) newSync(plan lifecycle.Plan) *syncRun {
	r := &syncRun{
		w: w, k: w.k, pod: w.pod, about: criconfig.PodReference(w.pod), observed: w.observed, plan: plan,
		crashes: map[string]lifecycle.Crash{},
		out:     outcome{waiting: map[string]*waitingUntil{}, crashes: map[string]*lifecycle.Crash{}, applied: map[string]string{}},
	}
	for name, c := range w.crashes {
		r.crashes[name] = *c
	}
	return r
}

// execute carries out the plan's steps in their order.
func (r *syncRun) execute(ctx context.Context) outcome {
	r.out.err = r.run(ctx)
	return r.out
}

func (r *syncRun) run(ctx context.Context) error {
	if r.plan.SandboxChanged {
		r.k.events.Event(r.about, corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	if err := r.stopFirst(ctx); err != nil {
		return err
	}
	if len(r.plan.Resize) > 0 || r.unbound {
		if r.out.resize = r.resize(ctx); r.out.resize != nil {
			return r.out.resize
		}
	}
	if len(r.plan.Start) == 0 && !r.plan.CreateSandbox {
		return nil
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := r.ensureSandbox(ctx); err != nil {
		return err
	}
	for i, ref := range r.plan.Start {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.start(ctx, ref)
		if i < len(r.plan.Start)-1 { // the end of the whole is looked at anyway
			r.w.touch()
		}
	}
	return r.prune(ctx)
}

// stopFirst stops and removes what the plan wants gone.
func (r *syncRun) stopFirst(ctx context.Context) error {
	if r.plan.KillPod {
		if out := r.w.killPod(ctx, r.pod, r.observed, nil); out.err != nil {
			return out.err
		}
	}
	if !r.plan.KillPod {
		for _, k := range r.plan.Kill {
			if err := r.w.killContainer(ctx, killInput{pod: r.pod, observed: r.observed, kill: k}); err != nil {
				return err
			}
		}
	}
	zero := int64(0)
	for _, k := range r.plan.Remove {
		if c := r.byID(k.ID); c != nil && c.State != lifecycle.Exited {
			if err := r.w.killContainer(ctx, killInput{pod: r.pod, observed: r.observed, kill: k, override: &zero}); err != nil {
				return err
			}
		}
		if err := r.k.cri.Remove(ctx, k.ID); err != nil {
			return err
		}
	}
	return nil
}

func (r *syncRun) byID(id string) *lifecycle.Container {
	for i := range r.observed.Containers {
		if r.observed.Containers[i].ID == id {
			return &r.observed.Containers[i]
		}
	}
	return nil
}

// prepare makes everything that containers need and that isn't the runtime's.
func (r *syncRun) prepare(ctx context.Context) (err error) {
	if err := r.k.networkReady(r.pod); err != nil {
		r.k.events.Eventf(r.about, corev1.EventTypeWarning, "NetworkNotReady", "network is not ready: %v", err)
		return err
	}
	if err := r.makeDirs(); err != nil {
		r.k.events.Eventf(r.about, corev1.EventTypeWarning, "Failed", "error making pod data directories: %v", err)
		return err
	}
	if _, err := r.k.tree.EnsurePod(r.pod); err != nil {
		r.k.events.Eventf(r.about, corev1.EventTypeWarning, "FailedCreatePodContainer", "unable to ensure pod container exists: %v", err)
		return err
	}
	r.out.bound, r.out.enforced = r.k.tree.Limits(r.pod), r.pod.Spec.Resources
	if err := r.k.updateQOS(); err != nil {
		return err
	}
	if r.volumes, err = r.w.mountVolumes(ctx, r.pod); err != nil {
		return err
	}
	r.out.mounted = r.volumes
	r.secrets = r.k.pullSecrets(ctx, r.pod)
	if r.handler, err = r.k.runtimeHandler(ctx, r.pod); err != nil {
		r.k.events.Eventf(r.about, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
		return err
	}
	r.users, err = r.k.users.mappings(r.pod)
	return err
}

func (r *syncRun) makeDirs() error {
	for dir, mode := range map[string]os.FileMode{
		r.k.volumes.PodDir(r.pod.UID): 0o750, filepath.Join(r.k.volumes.PodDir(r.pod.UID), "containers"): 0o750, r.k.translate.PodLogDir(r.pod): 0o755,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make the pod's directories: %w", err)
		}
	}
	return nil
}

// mountVolumes mounts the pod's volumes and tells of those that fail.
func (w *worker) mountVolumes(ctx context.Context, pod *corev1.Pod) (map[string]volumes.Mounted, error) {
	mounted, err := w.k.volumes.Mount(ctx, pod)
	if err == nil || ctx.Err() != nil {
		return mounted, err
	}
	for _, one := range unjoin(err) {
		var failure *volumes.MountError
		if errors.As(one, &failure) {
			w.k.events.Event(criconfig.PodReference(pod), corev1.EventTypeWarning, "FailedMount", failure.Error())
		}
	}
	return nil, err
}

func unjoin(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// refreshVolumes brings contents up to date while the pod runs.
func (w *worker) refreshVolumes(ctx context.Context, pod *corev1.Pod) outcome {
	mounted, err := w.mountVolumes(ctx, pod)
	return outcome{mounted: mounted, err: err}
}

// ensureSandbox makes the sandbox if the plan wants one, and in any case knows its description, which the runtime wants with each container.
func (r *syncRun) ensureSandbox(ctx context.Context) error {
	dns, warnings, err := criconfig.DNS(r.k.translate, r.pod)
	if err == nil {
		r.sandbox, err = criconfig.Sandbox(r.k.translate, criconfig.SandboxInput{
			Pod: r.pod, Attempt: r.plan.Attempt, CgroupParent: r.k.tree.PodPath(r.pod), DNS: dns, Users: r.users,
		})
	}
	if err != nil {
		r.k.events.Eventf(r.about, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
		return err
	}
	if r.k.resources.Unthrottled(r.pod) && r.sandbox.Linux.Resources.CpuQuota > 0 {
		r.sandbox.Linux.Resources.CpuQuota = -1
	}
	r.sandboxID, r.ips = r.plan.SandboxID, r.observed.IPs()
	if !r.plan.CreateSandbox {
		return nil
	}
	for _, warning := range warnings {
		r.k.events.Event(r.about, corev1.EventTypeWarning, warning.Reason, warning.Message)
	}
	if err := r.k.dra.Prepare(ctx, r.pod); err != nil {
		if ctx.Err() == nil {
			r.k.events.Eventf(r.about, corev1.EventTypeWarning, "FailedPrepareDynamicResources", "Failed to prepare dynamic resources: %v", err)
		}
		return err
	}
	r.k.metrics.start.sandbox(r.pod)
	resp, err := r.k.cri.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: r.sandbox, RuntimeHandler: r.handler})
	if err != nil {
		if ctx.Err() == nil {
			r.k.metrics.start.noSandbox(r.pod)
			r.k.events.Eventf(r.about, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
		}
		return fmt.Errorf("create sandbox: %w", err)
	}
	r.sandboxID = resp.PodSandboxId
	r.w.touch()
	if r.ips, err = r.k.cri.SandboxIPs(ctx, r.sandboxID); err != nil {
		r.k.events.Eventf(r.about, corev1.EventTypeWarning, "FailedPodSandBoxStatus", "Unable to get pod sandbox status: %v", err)
		return fmt.Errorf("read sandbox: %w", err)
	}
	return nil
}

// addresses returns the pod's addresses in the order in which its status has them.
func (r *syncRun) addresses() []string {
	if r.pod.Spec.HostNetwork {
		return r.k.hostIPs
	}
	return lifecycle.SortIPs(r.ips, r.k.hostIPs)
}

// prune removes dead containers that no status and no log of a previous run needs: of each name the newest dead one stays. Sandboxes that
// gave way go once nothing is in them.
func (r *syncRun) prune(ctx context.Context) error {
	dead := map[string]bool{}
	inUse := map[string]bool{r.sandboxID: true}
	for i := range r.observed.Containers {
		c := &r.observed.Containers[i]
		if c.State == lifecycle.Exited && dead[c.Name] {
			if err := r.k.removeContainer(ctx, c); err != nil {
				return err
			}
			continue
		}
		dead[c.Name] = dead[c.Name] || c.State == lifecycle.Exited
		inUse[c.SandboxID] = true
	}
	for i := range r.observed.Sandboxes {
		s := &r.observed.Sandboxes[i]
		if s.Ready || inUse[s.ID] {
			continue
		}
		if _, err := r.k.cri.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.ID}); err != nil && !cri.IsNotFound(err) {
			return fmt.Errorf("remove sandbox %s: %w", s.ID, err)
		}
	}
	return nil
}
