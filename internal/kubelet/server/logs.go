package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/logs"
)

// serveLogs streams a container's log.
func (s *server) serveLogs(w http.ResponseWriter, r *http.Request) {
	namespace, podName, name := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	opts, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, ok := s.Backend.FindPod(namespace, podName, "")
	if !ok {
		http.Error(w, fmt.Sprintf("pod %q does not exist\n", podName), http.StatusNotFound)
		return
	}
	if _, ok := lifecycle.Find(pod.Pod, name); !ok {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q\n", name, podName), http.StatusNotFound)
		return
	}
	id, err := chooseContainer(&pod.Status, podName, name, opts.Previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	path := logPath(pod, id)
	if path == "" {
		http.Error(w, fmt.Sprintf("container %q in pod %q is not available", name, podName), http.StatusBadRequest)
		return
	}
	out := &flushed{w: w}
	read := logs.FromAPI(opts, time.Now())
	if read.Follow {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		read.Done = s.exited(ctx, pod, id)
	}
	w.Header().Set("Content-Type", "text/plain")
	if err := logs.Read(r.Context(), path, read, out, out); err != nil && r.Context().Err() == nil {
		if !out.begun {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Logger.Debug("log broke off", "pod", podName, "container", name, "error", err)
	}
}

// flushed sends every write at once.
type flushed struct {
	w     http.ResponseWriter
	begun bool
}

func (f *flushed) Write(p []byte) (int, error) {
	f.begun = true
	n, err := f.w.Write(p)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

func logOptions(q url.Values) (*corev1.PodLogOptions, error) {
	o := &corev1.PodLogOptions{}
	for name, into := range map[string]*bool{"follow": &o.Follow, "previous": &o.Previous, "timestamps": &o.Timestamps} {
		if v := q.Get(name); v != "" {
			*into = v != "0" && !strings.EqualFold(v, "false")
		} else if q.Has(name) {
			*into = true
		}
	}
	for name, into := range map[string]**int64{"tailLines": &o.TailLines, "limitBytes": &o.LimitBytes, "sinceSeconds": &o.SinceSeconds} {
		v := q.Get(name)
		if v == "" || name == "tailLines" && v == "all" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s: invalid value %q", name, v)
		}
		*into = &n
	}
	if v := q.Get("sinceTime"); v != "" {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return nil, fmt.Errorf("sinceTime: %w", err)
		}
		o.SinceTime = &metav1.Time{Time: t}
	}
	if v := q.Get("stream"); v != "" {
		o.Stream = &v
	}
	return o, nil
}

// chooseContainer returns the ID of the container whose log is meant, or says why there is none.
func chooseContainer(status *corev1.PodStatus, pod, name string, previous bool) (string, error) {
	var s *corev1.ContainerStatus
	for _, list := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				s = &list[i]
			}
		}
	}
	if s == nil {
		return "", fmt.Errorf("container %q in pod %q is not available", name, pod)
	}
	last := ""
	if t := s.LastTerminationState.Terminated; t != nil {
		last = t.ContainerID
	}
	switch {
	case previous:
		if last == "" {
			return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod)
		}
		return bare(last), nil
	case s.State.Running != nil:
		return bare(s.ContainerID), nil
	case s.State.Terminated != nil && s.State.Terminated.ContainerID != "":
		return bare(s.State.Terminated.ContainerID), nil
	case last != "":
		return bare(last), nil
	case s.State.Terminated != nil:
		return "", fmt.Errorf("container %q in pod %q is terminated", name, pod)
	case s.State.Waiting != nil:
		why := s.State.Waiting.Reason
		switch why {
		case "ErrImagePull":
			why = "image can't be pulled"
		case "ImagePullBackOff":
			why = "trying and failing to pull image"
		}
		return "", fmt.Errorf("container %q in pod %q is waiting to start: %v", name, pod, why)
	}
	return "", fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, pod)
}

func bare(id string) string {
	if _, rest, ok := strings.Cut(id, "://"); ok {
		return rest
	}
	return id
}

func find(o *lifecycle.Observed, id string) *lifecycle.Container {
	if o == nil {
		return nil
	}
	for i := range o.Containers {
		if o.Containers[i].ID == id {
			return &o.Containers[i]
		}
	}
	return nil
}

func logPath(pod Pod, id string) string {
	if c := find(pod.Observed, id); c != nil {
		return c.LogPath
	}
	return ""
}

// exited returns a channel that's closed once a container doesn't run any more. Its goroutine ends with ctx.
func (s *server) exited(ctx context.Context, pod Pod, id string) <-chan struct{} {
	done := make(chan struct{})
	changes, stop := s.Backend.WatchPod(pod.UID)
	go func() {
		defer close(done)
		defer stop()
		for {
			now, ok := s.Backend.FindPod(pod.Namespace, pod.Name, pod.UID)
			c := find(now.Observed, id)
			// Created counts as running: its post-start hook may be under way.
			if !ok || c == nil || c.State == lifecycle.Exited || changes == nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changes:
			}
		}
	}()
	return done
}
