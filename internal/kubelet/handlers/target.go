package handlers

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// userAgent is what probes call themselves, as upstream's do.
const userAgent = "kube-probe/1.36"

// Runner runs a command in a container and returns its output and exit code.
type Runner interface {
	Exec(ctx context.Context, containerID string, cmd []string, timeout time.Duration) (output []byte, exitCode int32, err error)
}

// Target is a running container.
type Target struct {
	Pod         *corev1.Pod
	Container   *corev1.Container
	ContainerID string
	// IP is the pod's primary address.
	IP string
}

// port resolves a number or the name of one of the container's ports.
func (t *Target) port(p intstr.IntOrString) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, cp := range t.Container.Ports {
			if cp.Name == p.StrVal {
				n = int(cp.ContainerPort)
			}
		}
		if n == 0 {
			return 0, fmt.Errorf("couldn't find port: %v in container %v", p.StrVal, t.Container.Name)
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", n)
	}
	return n, nil
}

func (t *Target) request(ctx context.Context, h *corev1.HTTPGetAction, agent string) (*http.Request, error) {
	port, err := t.port(h.Port)
	if err != nil {
		return nil, err
	}
	// The path may carry a query; one that doesn't parse goes out as it stands.
	u, err := url.Parse(h.Path)
	if err != nil {
		u = &url.URL{Path: h.Path}
	}
	u.Scheme = strings.ToLower(string(cmp.Or(h.Scheme, corev1.URISchemeHTTP)))
	u.Host = net.JoinHostPort(cmp.Or(h.Host, t.IP), strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, header := range h.HTTPHeaders {
		req.Header.Add(header.Name, header.Value)
	}
	if req.Header.Get("User-Agent") == "" && req.Header["User-Agent"] == nil {
		req.Header.Set("User-Agent", agent)
	}
	switch accept := req.Header["Accept"]; {
	case accept == nil:
		req.Header.Set("Accept", "*/*")
	case req.Header.Get("Accept") == "":
		req.Header.Del("Accept")
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	return req, nil
}
