package handlers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
)

// Outcome is what a probe says.
type Outcome int

// The outcomes. A warning counts as a success.
const (
	Failure Outcome = iota
	Success
	Warning
)

const (
	maxBody      = 10 << 10
	maxRedirects = 10
)

// transport makes a connection for each request, as a probe shall not be answered by a connection that happens to be open.
var transport = &http.Transport{
	TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, // the pod's certificate is its own affair, by Kubernetes' contract
	DisableKeepAlives:  true,
	DisableCompression: true,
	Proxy:              nil,
	DialContext:        (&net.Dialer{}).DialContext,
}

// Probe runs a probe once. An error means that it could not be run, which says nothing of the container.
func Probe(ctx context.Context, run Runner, t *Target, p *corev1.Probe) (Outcome, string, error) {
	timeout := time.Duration(p.TimeoutSeconds) * time.Second
	switch {
	case p.Exec != nil:
		return probeExec(ctx, run, t, p.Exec, timeout)
	case p.HTTPGet != nil:
		req, err := t.request(ctx, p.HTTPGet, userAgent)
		if err != nil {
			return Failure, "", err
		}
		return probeHTTP(req, timeout)
	case p.TCPSocket != nil:
		return probeTCP(ctx, t, p.TCPSocket, timeout)
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return probeGRPC(ctx, net.JoinHostPort(t.IP, strconv.Itoa(int(p.GRPC.Port))), service, timeout)
	}
	return Failure, "", fmt.Errorf("missing probe handler for %s:%s", t.Pod.Name, t.Container.Name)
}

func probeExec(ctx context.Context, run Runner, t *Target, e *corev1.ExecAction, timeout time.Duration) (Outcome, string, error) {
	out, code, err := run.Exec(ctx, t.ContainerID, expand(e.Command, t), timeout)
	out = out[:min(len(out), maxBody)]
	if status.Code(err) == codes.DeadlineExceeded {
		return Failure, fmt.Sprintf("command %q timed out after %v", joined(e.Command), timeout), nil
	}
	if err != nil {
		return Failure, "", err
	}
	if code != 0 {
		return Failure, string(out), nil
	}
	return Success, string(out), nil
}

func probeHTTP(req *http.Request, timeout time.Duration) (Outcome, string, error) {
	origin := req.URL.Hostname()
	client := http.Client{Timeout: timeout, Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if next.URL.Hostname() != origin {
			return http.ErrUseLastResponse
		}
		if len(via) >= maxRedirects {
			return errors.New("stopped after 10 redirects")
		}
		if via[0].Host != "" {
			next.Host = via[0].Host
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		return Failure, err.Error(), nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Failure, err.Error(), nil
	}
	switch {
	case resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest:
		return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode), nil
	case resp.StatusCode >= http.StatusMultipleChoices:
		return Warning, fmt.Sprintf("Probe terminated redirects, Response body: %v", string(body)), nil
	}
	return Success, string(body), nil
}

func probeTCP(ctx context.Context, t *Target, s *corev1.TCPSocketAction, timeout time.Duration) (Outcome, string, error) {
	port, err := t.port(s.Port)
	if err != nil {
		return Failure, "", err
	}
	host := s.Host
	if host == "" {
		host = t.IP
	}
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error(), nil
	}
	conn.Close()
	return Success, "", nil
}

func probeGRPC(ctx context.Context, addr, service string, timeout time.Duration) (Outcome, string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithUserAgent(userAgent), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return Failure, fmt.Sprintf("error: failed to connect service at %q: %+v", addr, err), nil
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return Failure, fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message()), nil
	case codes.DeadlineExceeded:
		return Failure, fmt.Sprintf("timeout: health rpc did not complete within %v", timeout), nil
	default:
		return Failure, fmt.Sprintf("error: health rpc probe failed: %+v", err), nil
	}
	if resp.Status != healthpb.HealthCheckResponse_SERVING {
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", resp.Status.String()), nil
	}
	return Success, "service healthy", nil
}

func joined(cmd []string) string { return strings.Join(cmd, " ") }

// expand fills in variables that the container's spec sets to plain values.
func expand(cmd []string, t *Target) []string {
	out := make([]string, len(cmd))
	for i, arg := range cmd {
		out[i] = criconfig.Expand(arg, func(name string) (string, bool) {
			for _, e := range t.Container.Env {
				if e.Name == name && e.ValueFrom == nil {
					return e.Value, true
				}
			}
			return "", false
		})
	}
	return out
}
