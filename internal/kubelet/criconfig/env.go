package criconfig

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/kubelet/downward"
)

// EnvVar is one environment variable.
type EnvVar struct {
	Name, Value string
}

// Sources gives the objects that environments refer to. Absence is a NotFound API error.
type Sources interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// EnvInput is what a container's environment is made from.
type EnvInput struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	// Services are the variables of the services that the pod is linked to.
	Services []EnvVar
	Sources  Sources
	Node     downward.Node
	// ReadFile returns a file of one of the pod's volumes.
	ReadFile func(volume, path string) ([]byte, error)
}

// environment builds up a container's variables. Order is that of the declarations, what a later one overrides keeps its place.
type environment struct {
	in     EnvInput
	order  []string
	values map[string]string
	links  map[string]string
}

// Environment returns the container's variables: envFrom, then env, which overrides and may refer to what came before, then the
// services that neither of them names.
func Environment(ctx context.Context, in EnvInput) ([]EnvVar, error) {
	e := &environment{in: in, values: map[string]string{}, links: map[string]string{}}
	for _, v := range in.Services {
		e.links[v.Name] = v.Value
	}
	for i := range in.Container.EnvFrom {
		if err := e.addFrom(ctx, &in.Container.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	for i := range in.Container.Env {
		if err := e.addVar(ctx, &in.Container.Env[i]); err != nil {
			return nil, err
		}
	}
	out := make([]EnvVar, 0, len(e.order)+len(in.Services))
	for _, name := range e.order {
		out = append(out, EnvVar{name, e.values[name]})
	}
	for _, v := range in.Services {
		if _, ok := e.values[v.Name]; !ok {
			out = append(out, v)
		}
	}
	return out, nil
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.order = append(e.order, name)
	}
	e.values[name] = value
}

func (e *environment) lookup(name string) (string, bool) {
	if v, ok := e.values[name]; ok {
		return v, true
	}
	v, ok := e.links[name]
	return v, ok
}

func (e *environment) addFrom(ctx context.Context, from *corev1.EnvFromSource) error {
	values := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := e.in.Sources.ConfigMap(ctx, e.in.Pod.Namespace, from.ConfigMapRef.Name)
		if skip, err := absent(err, from.ConfigMapRef.Optional); skip || err != nil {
			return err
		}
		values = cm.Data
	case from.SecretRef != nil:
		s, err := e.in.Sources.Secret(ctx, e.in.Pod.Namespace, from.SecretRef.Name)
		if skip, err := absent(err, from.SecretRef.Optional); skip || err != nil {
			return err
		}
		for k, v := range s.Data {
			values[k] = string(v)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		e.set(from.Prefix+k, values[k])
	}
	return nil
}

func (e *environment) addVar(ctx context.Context, v *corev1.EnvVar) error {
	if v.Value != "" || v.ValueFrom == nil {
		e.set(v.Name, Expand(v.Value, e.lookup))
		return nil
	}
	value, skip, err := e.valueFrom(ctx, v.ValueFrom)
	if err != nil || skip {
		return err
	}
	e.set(v.Name, value)
	return nil
}

func (e *environment) valueFrom(ctx context.Context, from *corev1.EnvVarSource) (value string, skip bool, err error) {
	pod := e.in.Pod
	switch {
	case from.FieldRef != nil:
		value, err = downward.Field(pod, from.FieldRef.FieldPath, e.in.Node)
	case from.ResourceFieldRef != nil:
		value, err = downward.Resource(pod, e.in.Container, from.ResourceFieldRef, e.in.Node)
	case from.ConfigMapKeyRef != nil:
		return e.configMapKey(ctx, from.ConfigMapKeyRef)
	case from.SecretKeyRef != nil:
		return e.secretKey(ctx, from.SecretKeyRef)
	case from.FileKeyRef != nil:
		return e.fileKey(from.FileKeyRef)
	}
	return value, false, err
}

func (e *environment) configMapKey(ctx context.Context, ref *corev1.ConfigMapKeySelector) (string, bool, error) {
	cm, err := e.in.Sources.ConfigMap(ctx, e.in.Pod.Namespace, ref.Name)
	if skip, err := absent(err, ref.Optional); skip || err != nil {
		return "", skip, err
	}
	if v, ok := cm.Data[ref.Key]; ok {
		return v, false, nil
	}
	if isTrue(ref.Optional) {
		return "", true, nil
	}
	return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, e.in.Pod.Namespace, ref.Name)
}

func (e *environment) secretKey(ctx context.Context, ref *corev1.SecretKeySelector) (string, bool, error) {
	s, err := e.in.Sources.Secret(ctx, e.in.Pod.Namespace, ref.Name)
	if skip, err := absent(err, ref.Optional); skip || err != nil {
		return "", skip, err
	}
	if v, ok := s.Data[ref.Key]; ok {
		return string(v), false, nil
	}
	if isTrue(ref.Optional) {
		return "", true, nil
	}
	return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, e.in.Pod.Namespace, ref.Name)
}

func (e *environment) fileKey(ref *corev1.FileKeySelector) (string, bool, error) {
	data, err := e.in.ReadFile(ref.VolumeName, ref.Path)
	if err != nil {
		return "", false, fmt.Errorf("couldn't parse env file: %w", err)
	}
	v, err := parseEnvFile(data, ref.Key)
	if err != nil {
		return "", false, fmt.Errorf("couldn't parse env file")
	}
	if v != "" {
		return v, false, nil
	}
	if isTrue(ref.Optional) {
		return "", true, nil
	}
	return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
}

// absent tells whether a missing object may be passed over.
func absent(err error, optional *bool) (skip bool, _ error) {
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return true, nil
	}
	return false, err
}
