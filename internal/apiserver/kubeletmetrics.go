package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// kubeletMetrics opens what a node's kubelet tells of the resources that are used there.
func (s *Server) kubeletMetrics(ctx context.Context, node string) (io.ReadCloser, error) {
	if s.cfg.Kubelets == nil {
		return nil, errors.New("this server has no way to reach the kubelets")
	}
	base, transport, err := s.cfg.Kubelets.Endpoint(ctx, node, false)
	if err != nil {
		return nil, fmt.Errorf("reach the kubelet of node %q: %w", node, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics/resource", nil)
	if err != nil {
		return nil, err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("ask the kubelet of node %q: %w", node, err)
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("ask the kubelet of node %q: %s", node, answer.Status)
	}
	return answer.Body, nil
}
