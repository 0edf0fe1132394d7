package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// walk notes the paths of fields whose effects it has seen.
type walk struct {
	*testing.T
	ns, node, dir string
	seen          map[string]bool
}

// see notes the fields whose effect a value shows, and says so if it isn't what they ask for.
func (w *walk) see(paths string, got, want any) {
	w.Helper()
	w.holds(paths, fmt.Sprint(got) == fmt.Sprint(want), "it is %q, not %q", fmt.Sprint(got), fmt.Sprint(want))
}

// has is see for a text of which only a part is looked at.
func (w *walk) has(paths, got, want string) {
	w.Helper()
	w.holds(paths, strings.Contains(got, want), "%q is not in %q", want, got)
}

func (w *walk) holds(paths string, ok bool, format string, args ...any) {
	w.Helper()
	for _, path := range strings.Fields(paths) {
		w.seen[path] = true
	}
	if !ok {
		w.Errorf("%s: %s", paths, fmt.Sprintf(format, args...))
	}
}

// below puts a common beginning before the paths.
func below(start, paths string) string {
	fields := strings.Fields(paths)
	for i := range fields {
		fields[i] = start + fields[i]
	}
	return strings.Join(fields, " ")
}

// told is what the demonstration's "facts" prints.
type told struct {
	Args, Env, Mounts []string
	Dir, Host, IPC    string
	Terminal          bool
	Status            map[string]string
	Files             map[string]struct {
		Mode, Text string
		UID, GID   int
	}
}

func (f *told) env(name string) string {
	for _, e := range f.Env {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return "(unset)"
}

// file is a file's mode, group and content.
func (f *told) file(path string) string {
	file := f.Files[path]
	return fmt.Sprintf("%s %d %s", file.Mode, file.GID, file.Text)
}

// mount is the options and the kind of what is mounted somewhere.
func (f *told) mount(at string) string {
	for _, line := range f.Mounts {
		if fields := strings.Fields(line); fields[4] == at {
			return strings.Join(fields[5:], " ")
		}
	}
	return "(not mounted)"
}

// facts waits for a container's end and reads what it has told.
func (w *walk) facts(pod, container string) *told {
	w.Helper()
	var f told
	eventually(w.T, 30*time.Second, func() error {
		text, err := clientset(w.T).CoreV1().Pods(w.ns).GetLogs(pod, &corev1.PodLogOptions{Container: container}).DoRaw(w.Context())
		if err != nil {
			return fmt.Errorf("%w: %s", err, states(w.get(pod)))
		}
		f = told{}
		if err := json.Unmarshal(text, &f); err != nil {
			return fmt.Errorf("%s of %s tells %q: %w", container, pod, text, err)
		}
		return nil
	})
	return &f
}

// states tells why containers don't run.
func states(pod *corev1.Pod) string {
	text := string(pod.Status.Phase) + " " + pod.Status.Message
	for _, s := range append(slices.Clone(pod.Status.InitContainerStatuses), pod.Status.ContainerStatuses...) {
		text += fmt.Sprintf(" %s: %v", s.Name, s.State.String())
	}
	return text
}

func (w *walk) get(pod string) *corev1.Pod {
	w.Helper()
	p, err := clientset(w.T).CoreV1().Pods(w.ns).Get(w.Context(), pod, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// observe starts the pods and looks at what they tell.
func (w *walk) observe() {
	w.ns, w.dir = namespace(w.T), w.TempDir()
	w.node = strings.Fields(kubectl(w.T, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))[0]
	// A mount of its own, of the kind that hands on what is mounted below it.
	if err := errors.Join(unix.Mount("tmpfs", w.dir, "tmpfs", 0, "mode=0777"), unix.Mount("", w.dir, "", unix.MS_SHARED, "")); err != nil {
		w.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(w.dir, "device"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		kubectl := command(context.Background(), "delete", "pv", "walk-block", "--wait=false")
		if out, err := kubectl.CombinedOutput(); err != nil {
			w.Errorf("%v: %s", err, out)
		}
		if err := unix.Unmount(w.dir, unix.MNT_DETACH); err != nil {
			w.Error(err)
		}
	})
	apply(w.T, w.ns, w.manifest())
	calls := w.startCalls()
	w.schedule()
	w.ephemeral()
	w.ofPod(w.facts("facts", "plain"))
	w.ofVolumes(w.facts("facts", "plain"))
	w.ofContainer("initContainers[].", w.facts("facts", "first"))
	w.ofContainer("containers[].", w.facts("facts", "second"))
	w.ofNamespaces()
	w.ofStatuses()
	calls.check()
}

// manifest is testdata/podspec.yaml with what only this run knows.
func (w *walk) manifest() string {
	full := w.full()
	text := string(w.read("podspec.yaml"))
	for _, name := range []string{"first", "second"} {
		full.Name = name
		full.Env[0].Value = name
		out, err := json.Marshal(full)
		if err != nil {
			w.Fatal(err)
		}
		text = strings.ReplaceAll(text, "$FULL{name: "+name+"}", string(out))
	}
	return strings.NewReplacer("$NS", w.ns, "$NODE", w.node, "$DIR", w.dir).Replace(text)
}

func (w *walk) read(name string) []byte {
	w.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		w.Fatal(err)
	}
	return data
}

// full is a container that uses all of a container's fields whose effects its program can tell.
func (w *walk) full() *corev1.Container {
	w.Helper()
	var full corev1.Container
	if err := yaml.UnmarshalStrict(w.read("podspec-full.yaml"), &full); err != nil {
		w.Fatal(err)
	}
	return &full
}

func (w *walk) ofPod(f *told) {
	w.see("securityContext.runAsUser", f.Status["Uid"], "1001\t1001\t1001\t1001")
	w.see("securityContext.runAsGroup", f.Status["Gid"], "1002\t1002\t1002\t1002")
	w.see("securityContext.supplementalGroups[] securityContext.fsGroup securityContext.supplementalGroupsPolicy", f.Status["Groups"], "1002 1003 1004")
	w.see("securityContext.seccompProfile.type", f.Status["Seccomp"], "2")
	w.see("securityContext.sysctls[].name securityContext.sysctls[].value", strings.TrimSpace(f.Files["/proc/sys/net/ipv4/ip_unprivileged_port_start"].Text), "81")
	w.see("hostname subdomain setHostnameAsFQDN", f.Host, "host.linked."+w.ns+".svc.cluster.local")
	w.has("hostAliases[].ip hostAliases[].hostnames[]", f.Files["/etc/hosts"].Text, "192.0.2.9\talias.example")
	w.see("dnsPolicy dnsConfig.nameservers[] dnsConfig.searches[] dnsConfig.options[].name dnsConfig.options[].value",
		f.Files["/etc/resolv.conf"].Text, "search search.example\nnameserver 192.0.2.53\noptions ndots:3\n")
	w.has("automountServiceAccountToken", f.Files["/var/run/secrets"].Text, "no such file")
	w.see("enableServiceLinks", f.env("WEB_SERVICE_HOST"), "(unset)")
	w.see("nodeSelector{}", w.get("facts").Spec.NodeName, w.node)
}

func (w *walk) ofVolumes(f *told) {
	w.has("volumes[].emptyDir.medium volumes[].emptyDir.sizeLimit", f.mount("/in/empty"), "size=3072k")
	for volume, source := range map[string]string{"settings": "configMap", "hidden": "secret"} {
		value, name := map[string]string{"settings": "from-configmap", "hidden": "from-secret"}[volume], "name"
		if source == "secret" {
			name = "secretName"
		}
		start, dir := "volumes[]."+source+".", "/in/"+volume
		w.see(below(start, name+" items[].key items[].path items[].mode"), f.file(dir+"/as/renamed"), "-rw-r----- 1003 "+value)
		w.see(below(start, "defaultMode"), f.file(dir+"/plain"), "-r--r----- 1003 left out")
		w.see(below(start, "optional"), w.get("facts").Status.ContainerStatuses[0].ContainerID != "", true) // with two that are missing
	}
	w.see(below("volumes[].downwardAPI.items[].", "path mode fieldRef.apiVersion fieldRef.fieldPath"), f.file("/in/downward/label"), "-rw-r----- 1003 facts")
	w.see("volumes[].downwardAPI.defaultMode "+below("volumes[].downwardAPI.items[].resourceFieldRef.", "containerName resource divisor"), f.file("/in/downward/limit"), "-r--r----- 1003 64")
	const sources = "volumes[].projected.sources[]."
	w.see(below(sources+"configMap.", "name items[].key items[].path items[].mode optional"), f.file("/in/projected/c"), "-rw-r----- 1003 from-configmap")
	w.see(below(sources+"secret.", "name items[].key items[].path items[].mode optional"), f.file("/in/projected/s"), "-rw-r----- 1003 from-secret")
	w.see(below(sources+"downwardAPI.items[].", "path mode fieldRef.apiVersion fieldRef.fieldPath"), f.file("/in/projected/d"), "-rw-r----- 1003 facts")
	w.see("volumes[].projected.defaultMode "+below(sources+"downwardAPI.items[].resourceFieldRef.", "containerName resource divisor"), f.file("/in/projected/l"), "-r--r----- 1003 64")
	audience, lifetime, account := claims(w.T, f.Files["/in/projected/t"].Text)
	w.see(below(sources+"serviceAccountToken.", "path audience"), audience, "[somebody-else]")
	w.see(sources+"serviceAccountToken.expirationSeconds", lifetime, 1200)
	w.see("serviceAccountName", account, "system:serviceaccount:"+w.ns+":somebody")
	info, err := os.Stat(filepath.Join(w.dir, "made"))
	w.holds("volumes[].hostPath.path volumes[].hostPath.type", err == nil && info.IsDir() && f.Files["/in/host"].Mode != "", "%v", err)
	w.holds("volumes[].image.reference volumes[].image.pullPolicy", strings.HasPrefix(f.mount("/image"), "ro"), "%s", f.mount("/image"))
	w.holds("volumes[].persistentVolumeClaim.claimName volumes[].persistentVolumeClaim.readOnly", strings.HasPrefix(f.mount("/in/claim"), "ro"), "%s", f.mount("/in/claim"))
	w.holds("volumes[].name containers[].volumeMounts[].name containers[].volumeMounts[].mountPath", f.mount("/in/ephemeral") != "(not mounted)", "it isn't mounted")
	claim, err := clientset(w.T).CoreV1().PersistentVolumeClaims(w.ns).Get(w.Context(), "facts-ephemeral", metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	const template = "volumes[].ephemeral.volumeClaimTemplate."
	w.see(template+"metadata.labels{} "+template+"metadata.annotations{}", claim.Labels["l"]+claim.Annotations["a"], "12")
	w.see(below(template+"spec.", "accessModes[] storageClassName volumeMode"), fmt.Sprint(claim.Spec.AccessModes, *claim.Spec.StorageClassName, *claim.Spec.VolumeMode), fmt.Sprint([]string{"ReadWriteOnce"}, "local-path", "Filesystem"))
	w.see(below(template+"spec.resources.", "requests{} limits{}"), claim.Spec.Resources.Requests.Storage().String()+claim.Spec.Resources.Limits.Storage().String(), "2Mi4Mi")
}

// ofContainer looks at what a container of podspec-full.yaml has told.
func (w *walk) ofContainer(start string, f *told) {
	at := func(paths string) string { return below(start, paths) }
	w.see(at("name image command[]"), strings.Join(f.Args[:2], " "), "/demo facts")
	w.see(at("args[] env[].name env[].value"), f.Args[len(f.Args)-1], "valued")
	w.see(at("workingDir"), f.Dir, "/tmp")
	const source = "env[].valueFrom."
	w.see(at(source+"fieldRef.apiVersion "+source+"fieldRef.fieldPath"), f.env("FIELD"), "facts")
	w.see(below(start+source+"resourceFieldRef.", "containerName resource divisor"), f.env("LIMIT"), "64")
	w.see(below(start+source+"configMapKeyRef.", "name key optional"), f.env("CM")+f.env("NOCM"), "from-configmap(unset)")
	w.see(below(start+source+"secretKeyRef.", "name key optional"), f.env("SECRET")+f.env("NOSECRET"), "from-secret(unset)")
	w.see(below(start+source+"fileKeyRef.", "volumeName path key optional"), f.env("FILE")+f.env("NOFILE"), "told(unset)")
	w.see(below(start+"envFrom[].", "prefix configMapRef.name configMapRef.optional"), f.env("CM_key"), "from-configmap")
	w.see(below(start+"envFrom[].", "secretRef.name secretRef.optional"), f.env("S_key"), "from-secret")
	mount := start + "volumeMounts[]."
	w.has(below(mount, "name mountPath subPath"), strings.Join(f.Mounts, "\n"), "/sub/path /empty ")
	w.has(below(mount, "subPathExpr"), strings.Join(f.Mounts, "\n"), "/by-facts /expr ")
	w.holds(below(mount, "readOnly recursiveReadOnly"), strings.HasPrefix(f.mount("/readonly"), "ro"), "%s", f.mount("/readonly"))
	w.holds(below(mount, "mountPropagation"), strings.Contains(f.mount("/slave"), "master:") && !strings.Contains(f.mount("/readonly"), "master:"),
		"%s, %s", f.mount("/slave"), f.mount("/readonly"))
	limit := f.Files["/sys/fs/cgroup/memory/memory.limit_in_bytes"].Text
	if unified := f.Files["/sys/fs/cgroup/memory.max"].Text; !strings.HasPrefix(unified, "error") {
		limit = unified
	}
	w.see(at("resources.limits{}"), strings.TrimSpace(limit), 64<<20)
	if shares := f.Files["/sys/fs/cgroup/cpu/cpu.shares"].Text; !strings.HasPrefix(shares, "error") {
		w.see(at("resources.requests{}"), strings.TrimSpace(shares), 256)
	} else {
		w.holds(at("resources.requests{}"), !strings.HasPrefix(f.Files["/sys/fs/cgroup/cpu.weight"].Text, "error"), "there is no weight")
	}
	w.ofSecurity(start, f)
	statuses := append(slices.Clone(w.get("facts").Status.InitContainerStatuses), w.get("facts").Status.ContainerStatuses...)
	for _, s := range statuses {
		if s.Name == f.env("NAME") && s.State.Terminated != nil {
			w.see(at("terminationMessagePath"), strings.TrimSpace(s.State.Terminated.Message), "TOLD='told'")
		}
	}
}

func (w *walk) ofSecurity(start string, f *told) {
	at := start + "securityContext."
	w.see(at+"runAsUser", f.Status["Uid"], "1011\t1011\t1011\t1011")
	w.see(at+"runAsGroup", f.Status["Gid"], "1012\t1012\t1012\t1012")
	w.holds(at+"readOnlyRootFilesystem", strings.HasPrefix(f.mount("/"), "ro"), "%s", f.mount("/"))
	w.see(at+"allowPrivilegeEscalation", f.Status["NoNewPrivs"], "1")
	w.see(at+"capabilities.add[] "+at+"capabilities.drop[]", f.Status["CapBnd"], "0000000000000400")
	w.see(at+"seccompProfile.type", f.Status["Seccomp"], "0")
	w.see(start+"tty", f.Terminal, true)
	w.see(below(start+"volumeDevices[].", "name devicePath"), f.Files["/dev/walk"].Mode[:1], "D")
}
