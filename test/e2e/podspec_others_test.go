package e2e

import (
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// ephemeral has a container join a pod that runs, with all that such a container may have.
func (w *walk) ephemeral() {
	awaitPods(w.T, w.ns, "", 30*time.Second, func(pods map[string]corev1.Pod) error {
		for _, name := range []string{"lives", "livesmapped"} {
			if phase := pods[name].Status.Phase; phase != corev1.PodRunning {
				return fmt.Errorf("%s is %s", name, phase)
			}
		}
		return nil
	})
	full := w.full()
	full.Name, full.Env[0].Value = "guest", "guest"
	full.Args = append([]string{"/proc/1/cmdline"}, full.Args...)
	full.Resources = corev1.ResourceRequirements{}
	for i := range full.Env {
		if from := full.Env[i].ValueFrom; from != nil && from.ResourceFieldRef != nil {
			from.ResourceFieldRef.ContainerName = "target"
		}
	}
	for i := range full.VolumeMounts {
		full.VolumeMounts[i].SubPath, full.VolumeMounts[i].SubPathExpr = "", ""
	}
	w.join("lives", *full)
	f := w.facts("lives", "guest")
	const start = "ephemeralContainers[]."
	w.has(start+"targetContainerName", f.Files["/proc/1/cmdline"].Text, "1234s")
	w.see(below(start, "name image command[]"), strings.Join(f.Args[:2], " "), "/demo facts")
	w.see(below(start, "args[] env[].name env[].value"), f.Args[len(f.Args)-1], "valued")
	w.see(start+"workingDir", f.Dir, "/tmp")
	const source = start + "env[].valueFrom."
	w.see(below(source, "fieldRef.apiVersion fieldRef.fieldPath"), f.env("FIELD"), "lives")
	w.holds(below(source+"resourceFieldRef.", "containerName resource divisor"), f.env("LIMIT") != "(unset)", "%s", f.env("LIMIT"))
	w.see(below(source+"configMapKeyRef.", "name key optional"), f.env("CM")+f.env("NOCM"), "from-configmap(unset)")
	w.see(below(source+"secretKeyRef.", "name key optional"), f.env("SECRET")+f.env("NOSECRET"), "from-secret(unset)")
	w.see(below(source+"fileKeyRef.", "volumeName path key optional"), f.env("FILE")+f.env("NOFILE"), "told(unset)")
	w.see(below(start+"envFrom[].", "prefix configMapRef.name configMapRef.optional"), f.env("CM_key"), "from-configmap")
	w.see(below(start+"envFrom[].", "prefix secretRef.name secretRef.optional"), f.env("S_key"), "from-secret")
	w.holds(below(start+"volumeMounts[].", "name mountPath readOnly recursiveReadOnly"), strings.HasPrefix(f.mount("/readonly"), "ro"), "%s", f.mount("/readonly"))
	w.has(start+"volumeMounts[].mountPropagation", f.mount("/slave"), "master:")
	w.ofSecurity(start, f)
	eventually(w.T, 10*time.Second, func() error {
		for _, s := range w.get("lives").Status.EphemeralContainerStatuses {
			if s.State.Terminated != nil {
				w.see(start+"terminationMessagePath", strings.TrimSpace(s.State.Terminated.Message), "TOLD='told'")
				return nil
			}
		}
		return fmt.Errorf("the guest hasn't ended")
	})
	w.refused()
	w.guests()
}

// join adds an ephemeral container to a pod.
func (w *walk) join(pod string, c corev1.Container) {
	w.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		p := w.get(pod)
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon(c), TargetContainerName: "target"})
		_, err := clientset(w.T).CoreV1().Pods(w.ns).UpdateEphemeralContainers(w.Context(), pod, p, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
}

// guests are further ephemeral containers, for what excludes what the first one has.
func (w *walk) guests() {
	const start = "ephemeralContainers[]."
	root := func(c *corev1.SecurityContext) *corev1.SecurityContext { c.RunAsUser = new(int64(0)); return c }
	demo := corev1.Container{Image: "clipper.dev/demo:v1", Args: []string{"facts"}}
	guest := func(name string, change func(*corev1.Container)) corev1.Container {
		c := demo
		c.Name = name
		change(&c)
		return c
	}
	w.join("lives", guest("free", func(c *corev1.Container) { c.SecurityContext = root(&corev1.SecurityContext{Privileged: new(true)}) }))
	w.join("lives", guest("strict", func(c *corev1.Container) { c.SecurityContext = root(&corev1.SecurityContext{RunAsNonRoot: new(true)}) }))
	w.join("lives", guest("absent", func(c *corev1.Container) { c.Image, c.ImagePullPolicy = "clipper.dev/none:v1", corev1.PullNever }))
	w.join("lives", guest("wrong", func(c *corev1.Container) {
		c.Args, c.TerminationMessagePolicy = []string{"wrong"}, corev1.TerminationMessageFallbackToLogsOnError
	}))
	w.join("livesmapped", guest("open", func(c *corev1.Container) {
		c.SecurityContext = root(&corev1.SecurityContext{ProcMount: new(corev1.UnmaskedProcMount)})
	}))
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		w.Fatal(err)
	}
	w.has(start+"securityContext.privileged", string(status), "CapBnd:\t"+w.facts("lives", "free").Status["CapEff"])
	w.holds(start+"securityContext.procMount", !strings.Contains(strings.Join(w.facts("livesmapped", "open").Mounts, "\n"), " /proc/sys "), "parts of /proc are covered")
	awaitPods(w.T, w.ns, "", 20*time.Second, func(pods map[string]corev1.Pod) error {
		text := fmt.Sprintf("%+v", pods["lives"].Status.EphemeralContainerStatuses)
		for path, want := range map[string]string{
			"securityContext.runAsNonRoot": "container's runAsUser breaks non-root policy", "imagePullPolicy": "ErrImageNeverPull", "terminationMessagePolicy": "no such verb: wrong",
		} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("%s: %q isn't in %s", path, want, text)
			}
			w.holds(start+path, true, "")
		}
		return nil
	})
}

// refused tries what a container that joins a pod may not have.
func (w *walk) refused() {
	for path, change := range map[string]func(*corev1.EphemeralContainerCommon){
		"ports":          func(c *corev1.EphemeralContainerCommon) { c.Ports = []corev1.ContainerPort{{ContainerPort: 1}} },
		"resources":      func(c *corev1.EphemeralContainerCommon) { c.Resources = w.full().Resources },
		"livenessProbe":  func(c *corev1.EphemeralContainerCommon) { c.LivenessProbe = &corev1.Probe{} },
		"readinessProbe": func(c *corev1.EphemeralContainerCommon) { c.ReadinessProbe = &corev1.Probe{} },
		"startupProbe":   func(c *corev1.EphemeralContainerCommon) { c.StartupProbe = &corev1.Probe{} },
		"lifecycle":      func(c *corev1.EphemeralContainerCommon) { c.Lifecycle = &corev1.Lifecycle{} },
		"resizePolicy": func(c *corev1.EphemeralContainerCommon) {
			c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}}
		},
		"restartPolicy": func(c *corev1.EphemeralContainerCommon) { c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways) },
		"volumeMounts[0].subPath": func(c *corev1.EphemeralContainerCommon) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "empty", MountPath: "/e", SubPath: "s"}}
		},
		"volumeMounts[0].subPathExpr": func(c *corev1.EphemeralContainerCommon) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "empty", MountPath: "/e", SubPathExpr: "s"}}
		},
	} {
		pod := w.get("lives")
		pod.ResourceVersion = "" // its status may change meanwhile
		c := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "refused", Image: "clipper.dev/demo:v1"}}
		change(&c.EphemeralContainerCommon)
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, c)
		_, err := clientset(w.T).CoreV1().Pods(w.ns).UpdateEphemeralContainers(w.Context(), "lives", pod, metav1.UpdateOptions{})
		if err == nil || !strings.Contains(err.Error(), "ephemeralContainers[1]."+path) {
			w.Errorf("an ephemeral container with %s: %v", path, err)
		}
	}
}

// ofNamespaces looks at what pods share with the node, and their containers with one another.
func (w *walk) ofNamespaces() {
	f := w.facts("shares", "c")
	host, _ := os.Hostname()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		w.Fatal(err)
	}
	w.see("hostNetwork", f.Host, host)
	own, err := os.ReadFile("/proc/1/cmdline")
	w.holds("hostPID", err == nil && f.Files["/proc/1/cmdline"].Text == string(own), "its first process is %q", f.Files["/proc/1/cmdline"].Text)
	for path, f := range map[string]*told{"containers": f, "initContainers": w.facts("shares", "i")} {
		w.has(path+"[].securityContext.privileged", string(status), "CapBnd:\t"+f.Status["CapEff"])
	}
	ipc, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		w.Fatal(err)
	}
	w.see("hostIPC", f.IPC, ipc)
	for kind, container := range map[string]string{"containers[].": "c", "initContainers[].": "i"} {
		m := w.facts("mapped", container)
		w.holds("hostUsers", !strings.Contains(m.Files["/proc/self/uid_map"].Text, "4294967295"), "%s", m.Files["/proc/self/uid_map"].Text)
		w.holds(kind+"securityContext.procMount", !strings.Contains(strings.Join(m.Mounts, "\n"), " /proc/keys ") && !strings.Contains(strings.Join(m.Mounts, "\n"), " /proc/sys "), "parts of /proc are covered")
		w.see("hostnameOverride os.name", m.Host, "other.name")
	}
	w.holds("shareProcessNamespace", w.facts("together", "b").Status["Pid"] != "1", "it is alone")
	w.see("enableServiceLinks", w.facts("together", "b").env("WEB_SERVICE_PORT"), "80")
}

// ofStatuses looks at what becomes of pods that can't go on.
func (w *walk) ofStatuses() {
	awaitPods(w.T, w.ns, "", 30*time.Second, func(pods map[string]corev1.Pod) error {
		for _, want := range []struct{ paths, pod, text string }{
			{"securityContext.runAsNonRoot", "root", "container's runAsUser breaks non-root policy"},
			{"initContainers[].securityContext.runAsNonRoot", "nonroot", "container's runAsUser breaks non-root policy"},
			{"containers[].securityContext.runAsNonRoot", "nonrootc", "container's runAsUser breaks non-root policy"},
			{"containers[].terminationMessagePolicy", "fails", "no such verb: wrong"},
			{"initContainers[].terminationMessagePolicy", "failsfirst", "no such verb: wrong"},
			{"initContainers[].imagePullPolicy", "never", "ErrImageNeverPull"},
			{"containers[].imagePullPolicy", "neverc", "ErrImageNeverPull"},
			{"activeDeadlineSeconds", "together", "DeadlineExceeded"},
			{"restartPolicy", "fails", "Failed"},
		} {
			status := pods[want.pod].Status
			if text := fmt.Sprintf("%+v", status); !strings.Contains(text, want.text) {
				return fmt.Errorf("%s: %q isn't in %s", want.paths, want.text, text)
			}
			w.holds(want.paths, true, "")
		}
		return nil
	})
	const more = `{"resources":{"limits":{"memory":"40Mi"},"requests":{"memory":"40Mi"}}`
	kubectl(w.T, "-n", w.ns, "patch", "pod", "resized", "--subresource", "resize", "-p", `{"spec":{"containers":[`+more+`,"name":"c"}],"initContainers":[`+more+`,"name":"s"}]}}`)
	awaitPods(w.T, w.ns, "", 20*time.Second, func(pods map[string]corev1.Pod) error {
		s := pods["resized"].Status
		for path, statuses := range map[string][]corev1.ContainerStatus{"containers": s.ContainerStatuses, "initContainers": s.InitContainerStatuses} {
			if len(statuses) != 1 || statuses[0].RestartCount != 1 {
				return fmt.Errorf("%s weren't restarted to be resized: %+v", path, statuses)
			}
			w.holds(below(path+"[].resizePolicy[].", "resourceName restartPolicy"), true, "")
		}
		return nil
	})
	w.see("nodeName", w.get("lives").Spec.NodeName, w.node)
}
