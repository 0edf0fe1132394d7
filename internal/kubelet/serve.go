package kubelet

import "context"

func (k *Kubelet) serve(ctx context.Context) error { <-ctx.Done(); return nil }
