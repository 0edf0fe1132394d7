package handlers

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
)

const hookAgent = "kube-lifecycle/1.36"

// Hook runs a lifecycle hook to its end. The error's text is for the container's status, not for events: a command's output may hold secrets.
func (m *Metrics) Hook(ctx context.Context, run Runner, t *Target, h *corev1.LifecycleHandler) error {
	where := fmt.Sprintf("for Container %q in Pod %q", t.Container.Name, criconfig.PodName(t.Pod))
	switch {
	case h.Exec != nil:
		out, code, err := run.Exec(ctx, t.ContainerID, h.Exec.Command, 0)
		if err == nil && code != 0 {
			err = fmt.Errorf("command '%s' exited with %d: %s", joined(h.Exec.Command), code, out)
		}
		if err != nil {
			return fmt.Errorf("Exec lifecycle hook (%s) %s failed - error: %w, message: %q", h.Exec.Command, where, err, out)
		}
		return nil
	case h.HTTPGet != nil:
		if err := m.hookHTTP(ctx, t, h.HTTPGet); err != nil {
			return fmt.Errorf("HTTP lifecycle hook (%s) %s failed - error: %w", h.HTTPGet.Path, where, err)
		}
		return nil
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			m.cut.Inc()
			return fmt.Errorf("container terminated before sleep hook finished")
		}
	}
	return fmt.Errorf("invalid handler: %v", h)
}

// hookHTTP sends the request; any answer is a success. A server that speaks plain HTTP where HTTPS is asked for is asked again so.
func (m *Metrics) hookHTTP(ctx context.Context, t *Target, h *corev1.HTTPGetAction) error {
	req, err := t.request(ctx, h, hookAgent)
	if err != nil {
		return err
	}
	client := http.Client{Transport: transport}
	resp, err := client.Do(req)
	if err != nil && req.URL.Scheme == "https" && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		plain := *h
		plain.Scheme = corev1.URISchemeHTTP
		if req, err = t.request(ctx, &plain, hookAgent); err != nil {
			return err
		}
		req.Header.Del("Authorization")
		if resp, err = client.Do(req); err == nil {
			m.fallbacks.Inc()
		}
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	return err
}
