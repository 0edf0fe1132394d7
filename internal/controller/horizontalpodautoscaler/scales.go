package horizontalpodautoscaler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

// apiConfig is a client's configuration that reaches the API by a transport. The transport alone says where it is and who asks.
func apiConfig(api http.RoundTripper) *rest.Config {
	return &rest.Config{Host: "https://kubernetes.default.svc", Transport: api, QPS: -1}
}

// scales reads and writes the scale subresources of any kind.
type scales struct {
	mapper *mapper
	rest   rest.Interface
}

// target is what an autoscaler scales.
type target struct {
	path  string
	scale *autoscalingv1.Scale
}

func newScales(api http.RoundTripper, m *mapper) (*scales, error) {
	cfg := apiConfig(api)
	cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	c, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of scales: %w", err)
	}
	return &scales{mapper: m, rest: c}, nil
}

// places lists the resources that a kind may be.
func (s *scales) places(kind schema.GroupKind) ([]schema.GroupVersionResource, error) {
	mappings, err := s.mapper.RESTMappings(kind)
	if err != nil {
		return nil, err
	}
	out := make([]schema.GroupVersionResource, len(mappings))
	for i, m := range mappings {
		out[i] = m.Resource
	}
	return out, nil
}

// find reads the scale of the first of the places that has one.
func (s *scales) find(ctx context.Context, places []schema.GroupVersionResource, namespace, name string) (*target, error) {
	first := errors.New("unrecognized resource")
	for i, gvr := range places {
		root := "/apis/" + gvr.Group
		if gvr.Group == "" {
			root = "/api"
		}
		t := &target{path: fmt.Sprintf("%s/%s/namespaces/%s/%s/%s/scale", root, gvr.Version, namespace, gvr.Resource, name)}
		err := s.read(ctx, t)
		if err == nil {
			return t, nil
		}
		if i == 0 {
			first = err
		}
	}
	return nil, first
}

func (s *scales) read(ctx context.Context, t *target) error {
	scale := &autoscalingv1.Scale{}
	if err := s.rest.Get().AbsPath(t.path).Do(ctx).Into(scale); err != nil {
		return err
	}
	t.scale = scale
	return nil
}

// set writes the replicas, again if the target has changed meanwhile.
func (s *scales) set(ctx context.Context, t *target, replicas int32) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		next := t.scale.DeepCopy()
		next.Spec.Replicas = replicas
		next.SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("Scale"))
		body, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("write a scale: %w", err)
		}
		err = s.rest.Put().AbsPath(t.path).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
		if err != nil {
			if failed := s.read(ctx, t); failed != nil {
				return errors.Join(err, failed)
			}
		}
		return err
	})
}
