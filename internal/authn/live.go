package authn

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
)

// live is the objects on which tokens depend.
type live struct {
	accounts client.TypedView[*corev1.ServiceAccount]
	pods     client.TypedView[*corev1.Pod]
	nodes    client.TypedView[*corev1.Node]
	secrets  client.TypedView[*corev1.Secret]
}

func openLive(ctx context.Context, c client.Client) (*live, error) {
	var l live
	var err error
	if l.accounts, err = client.ServiceAccounts.View(ctx, c, client.Selection{}); err != nil {
		return nil, fmt.Errorf("view service accounts: %w", err)
	}
	if l.pods, err = client.Pods.View(ctx, c, client.Selection{}); err != nil {
		return nil, fmt.Errorf("view pods: %w", err)
	}
	if l.nodes, err = client.Nodes.View(ctx, c, client.Selection{}); err != nil {
		return nil, fmt.Errorf("view nodes: %w", err)
	}
	if l.secrets, err = client.Secrets.View(ctx, c, client.Selection{}); err != nil {
		return nil, fmt.Errorf("view secrets: %w", err)
	}
	return &l, nil
}
