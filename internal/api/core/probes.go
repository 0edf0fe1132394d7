package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// A probeRole is what a probe is for.
type probeRole string

const (
	livenessProbe  probeRole = "livenessProbe"
	readinessProbe probeRole = "readinessProbe"
	startupProbe   probeRole = "startupProbe"
)

func validateProbe(p *corev1.Probe, role probeRole, container *field.Path) (e check.Errors) {
	if p == nil {
		return nil
	}
	path := container.Child(string(role))
	e.Add(validateHandler(handler{p.Exec, p.HTTPGet, p.TCPSocket, p.GRPC, nil}, nil, path)...)
	e.NonNegative(path.Child("initialDelaySeconds"), int64(p.InitialDelaySeconds))
	e.NonNegative(path.Child("timeoutSeconds"), int64(p.TimeoutSeconds))
	e.NonNegative(path.Child("periodSeconds"), int64(p.PeriodSeconds))
	e.NonNegative(path.Child("successThreshold"), int64(p.SuccessThreshold))
	e.NonNegative(path.Child("failureThreshold"), int64(p.FailureThreshold))
	grace := path.Child("terminationGracePeriodSeconds")
	if p.TerminationGracePeriodSeconds != nil && *p.TerminationGracePeriodSeconds <= 0 {
		e.Invalid(grace, *p.TerminationGracePeriodSeconds, "must be greater than 0")
	}
	if role == readinessProbe {
		if p.TerminationGracePeriodSeconds != nil {
			e.Invalid(grace, p.TerminationGracePeriodSeconds, "must not be set for readinessProbes")
		}
		return e
	}
	if p.SuccessThreshold != 1 {
		e.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1")
	}
	return e
}

// A handler is the action of a probe or of a hook.
type handler struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
}

func validateHandler(h handler, grace *int64, path *field.Path) (e check.Errors) {
	u := union{e: &e, path: path, twice: check.OneHandlerType}
	u.member(h.exec != nil, "exec", func(p *field.Path) (e check.Errors) {
		if len(h.exec.Command) == 0 {
			e.Required(p.Child("command"), "")
		}
		return e
	})
	u.member(h.http != nil, "httpGet", on(h.http, validateHTTPGet))
	u.member(h.tcp != nil, "tcpSocket", func(p *field.Path) check.Errors { return validatePortOrName(h.tcp.Port, p.Child("port")) })
	u.member(h.grpc != nil, "grpc", func(p *field.Path) check.Errors {
		return validatePortOrName(intstr.FromInt32(h.grpc.Port), p.Child("port"))
	})
	u.member(h.sleep != nil, "sleep", func(p *field.Path) (e check.Errors) {
		if s := h.sleep.Seconds; grace != nil && (s < 0 || s > *grace) {
			e.Invalidf(p, s, "must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace)
		}
		return e
	})
	if u.count == 0 {
		e.Required(path, "must specify a handler type")
	}
	return e
}

func validateHTTPGet(a *corev1.HTTPGetAction, path *field.Path) (e check.Errors) {
	e.NonEmpty(path.Child("path"), a.Path)
	e.Add(validatePortOrName(a.Port, path.Child("port"))...)
	check.OneOf(&e, path.Child("scheme"), a.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	for _, h := range a.HTTPHeaders {
		e.Messages(path.Child("httpHeaders"), h.Name, validation.IsHTTPHeaderName(h.Name))
	}
	return e
}

// validatePortOrName requires a port's number or its name.
func validatePortOrName(port intstr.IntOrString, path *field.Path) (e check.Errors) {
	switch port.Type {
	case intstr.Int:
		e.Messages(path, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	case intstr.String:
		e.Messages(path, port.StrVal, validation.IsValidPortName(port.StrVal))
	default:
		e.Internal(path, fmt.Errorf("unknown type: %v", port.Type))
	}
	return e
}

func validateLifecycle(l *corev1.Lifecycle, grace *int64, os *corev1.PodOS, path *field.Path) (e check.Errors) {
	if l == nil {
		return nil
	}
	if h := l.PostStart; h != nil {
		e.Add(validateHandler(handler{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep}, grace, path.Child("postStart"))...)
	}
	if h := l.PreStop; h != nil {
		e.Add(validateHandler(handler{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep}, grace, path.Child("preStop"))...)
	}
	// A stop signal is behind a feature gate that is off: it is dropped unless the object had it before.
	if l.StopSignal != nil && os == nil {
		e.Forbidden(path.Child("stopSignal"), "may not be set for containers with empty `spec.os.name`")
	}
	return e
}
