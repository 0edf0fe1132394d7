package kubelet

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// followStatic takes in the manifests of the static pods' folder until ctx ends.
func (k *Kubelet) followStatic(ctx context.Context) error {
	if k.cfg.Settings.StaticPodPath == "" {
		return nil
	}
	var removed removals
	events, stop, err := watchDir(k.cfg.Settings.StaticPodPath, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE, removed.note)
	if err != nil {
		return err
	}
	defer stop()
	known := staticPods{}
	for {
		k.readStatic(known, removed.take())
		k.mirrorStatic(ctx, known)
		timer := time.NewTimer(k.cfg.Settings.FileCheckFrequency.Duration)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-events:
			timer.Stop()
		case <-k.staticNews:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// staticPods are pods by their UIDs, with the names of their files.
type staticPods map[types.UID]staticPod

type staticPod struct {
	*corev1.Pod
	file string
}

// removals are the names of files that were taken away, even if they are there again.
type removals struct {
	mu    sync.Mutex
	names map[string]bool
}

func (r *removals) note(name string, mask uint32) {
	if mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		r.names = map[string]bool{}
	}
	r.names[name] = true
}

func (r *removals) take() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := r.names
	r.names = nil
	return names
}

// readStatic compares the folder with what is known, which it changes. A pod whose file was removed ends, and starts again if the file is back.
func (k *Kubelet) readStatic(known staticPods, removed map[string]bool) {
	found := staticPods{}
	entries, err := os.ReadDir(k.cfg.Settings.StaticPodPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		k.logger.Error("static pods not read", "path", k.cfg.Settings.StaticPodPath, "error", err)
		return
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(k.cfg.Settings.StaticPodPath, e.Name())
		pod, err := k.parseStatic(path)
		if err != nil {
			k.logger.Error("static pod not accepted", "path", path, "error", err)
			continue
		}
		found[pod.UID] = staticPod{pod, e.Name()}
	}
	for uid, pod := range known {
		if _, ok := found[uid]; !ok || removed[pod.file] {
			k.pods.remove(pod.Pod)
			delete(known, uid)
		}
	}
	for uid, pod := range found {
		if _, ok := known[uid]; !ok {
			if k.pods.leaving(fullName(pod.Pod)) {
				k.pods.returns(uid)
				continue // it starts when the pod that it follows is gone
			}
			k.pods.update(pod.Pod)
		}
		known[uid] = pod
	}
	k.setStaticReady()
}

// lookAtStatic makes the static pods be looked at before their time.
func (k *Kubelet) lookAtStatic() {
	select {
	case k.staticNews <- struct{}{}:
	default:
	}
}

// mirrorStatic makes the mirrors that are missing, and removes those of pods that are gone; one that still ends keeps its own.
func (k *Kubelet) mirrorStatic(ctx context.Context, known staticPods) {
	k.pods.mu.Lock()
	mirrors := maps.Clone(k.pods.mirrors)
	k.pods.mu.Unlock()
	for _, pod := range known {
		if mirror := mirrors[fullName(pod.Pod)]; mirror != nil {
			delete(mirrors, fullName(pod.Pod))
			if reflects(mirror, pod.Pod) {
				continue
			}
			k.statuses.set(mirror, mirror.Status, 0, true)
		}
		if err := k.ensureMirror(ctx, pod.Pod); err != nil && ctx.Err() == nil {
			k.logger.Debug("mirror pod not created", "error", err)
		}
	}
	for name, mirror := range mirrors {
		if k.pods.leaving(name) {
			continue
		}
		k.statuses.set(mirror, mirror.Status, 0, true)
	}
}

// parseStatic reads a manifest and makes it a pod of this node.
func (k *Kubelet) parseStatic(path string) (*corev1.Pod, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("parse manifest: it's a %T, not a Pod", obj)
	}
	if pod.Name == "" || len(pod.Spec.Containers) == 0 {
		return nil, errors.New("a pod needs a name and a container")
	}
	k.cfg.DefaultPod(pod)
	sum := md5.New()
	fmt.Fprintf(sum, "host:%s", k.cfg.NodeName)
	fmt.Fprintf(sum, "file:%s", path)
	content, err := json.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("hash manifest: %w", err)
	}
	sum.Write(content)
	hash := hex.EncodeToString(sum.Sum(nil))
	if pod.UID == "" {
		pod.UID = types.UID(hash)
	}
	pod.Name += "-" + strings.ToLower(k.cfg.NodeName)
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	pod.Spec.NodeName = k.cfg.NodeName
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[lifecycle.HashAnnotation] = hash
	pod.Annotations[lifecycle.SourceAnnotation] = lifecycle.SourceFile
	pod.Annotations[lifecycle.SeenAnnotation] = time.Now().UTC().Format(time.RFC3339Nano)
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	pod.Status.Phase = corev1.PodPending
	return pod, nil
}

// watchDir tells of changes in a folder, which is made if it isn't there. note is called with each change before it's told; nil asks for none.
func watchDir(dir string, mask uint32, note func(name string, mask uint32)) (<-chan struct{}, func(), error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("make the folder to watch: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, mask); err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	events, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			if note != nil {
				eachChange(buf[:n], note)
			}
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}()
	return events, func() { f.Close(); <-ended }, nil
}

// eachChange calls fn for every event that inotify has written.
func eachChange(buf []byte, fn func(name string, mask uint32)) {
	for len(buf) >= unix.SizeofInotifyEvent {
		mask, length := binary.NativeEndian.Uint32(buf[4:]), int(binary.NativeEndian.Uint32(buf[12:]))
		buf = buf[unix.SizeofInotifyEvent:]
		fn(unix.ByteSliceToString(buf[:length]), mask)
		buf = buf[length:]
	}
}
