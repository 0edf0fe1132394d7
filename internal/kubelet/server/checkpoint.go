package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/cri"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// serveCheckpoint writes a container's state to an archive, where the runtime can.
func (s *server) serveCheckpoint(w http.ResponseWriter, r *http.Request) {
	pod, ok := s.Backend.FindPod(r.PathValue("namespace"), r.PathValue("pod"), "")
	if !ok {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	name := r.PathValue("container")
	if !hasContainer(&pod.Spec, name) {
		http.Error(w, fmt.Sprintf("container %v does not exist", name), http.StatusNotFound)
		return
	}
	var timeout time.Duration
	if given := r.URL.Query()["timeout"]; len(given) > 0 {
		seconds, err := strconv.ParseInt(given[len(given)-1], 10, 64)
		if err != nil {
			http.Error(w, "cannot parse value of timeout parameter", http.StatusNotFound)
			return
		}
		timeout = time.Duration(seconds) * time.Second
	}
	location, err := s.checkpoint(r.Context(), pod, name, timeout)
	if err != nil {
		http.Error(w, fmt.Sprintf("checkpointing of %v/%v/%v failed (%v)", pod.Namespace, pod.Name, name, err), http.StatusInternalServerError)
		return
	}
	s.writeJSON(w, map[string][]string{"items": {location}})
}

func hasContainer(spec *corev1.PodSpec, name string) bool {
	return slices.ContainsFunc(spec.Containers, func(c corev1.Container) bool { return c.Name == name }) ||
		slices.ContainsFunc(spec.InitContainers, func(c corev1.Container) bool { return c.Name == name }) ||
		slices.ContainsFunc(spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == name })
}

// checkpoint has the runtime write the archive, in no less time than other calls have, and returns its path.
func (s *server) checkpoint(ctx context.Context, pod Pod, name string, timeout time.Duration) (string, error) {
	if timeout < 0 {
		return "", errors.New("CheckpointContainer requires the timeout value to be > 0")
	}
	var c *lifecycle.Container
	if pod.Observed != nil {
		c = pod.Observed.Container(name)
	}
	if c == nil {
		return "", fmt.Errorf("container %v not found", name)
	}
	location := checkpointPath(s.RootDir, pod, name)
	if err := os.MkdirAll(filepath.Dir(location), 0o700); err != nil {
		return "", fmt.Errorf("create the folder of checkpoints: %w", err)
	}
	timeout = max(timeout, s.Runtime.Patience())
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := &runtimeapi.CheckpointContainerRequest{ContainerId: c.ID, Location: location, Timeout: int64(timeout / time.Second)}
	if _, err := s.Runtime.CheckpointContainer(ctx, request); err != nil {
		return "", errors.New(cri.Message(err))
	}
	return location, nil
}

func checkpointPath(root string, pod Pod, container string) string {
	name := fmt.Sprintf("checkpoint-%s_%s-%s-%s.tar", pod.Name, pod.Namespace, container, time.Now().Format(time.RFC3339))
	return filepath.Join(root, "checkpoints", name)
}
