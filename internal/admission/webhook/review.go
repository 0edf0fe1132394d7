package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	reviewv1 "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"clipper.dev/clipper/internal/admission"
)

// errCall is a webhook that could not be asked; the failure policy decides what that means.
type errCall struct {
	name   string
	reason error
	code   int // that metrics count it by
}

func (e *errCall) Error() string {
	if e.reason != nil {
		return fmt.Sprintf("failed calling webhook %q: %v", e.name, e.reason)
	}
	return fmt.Sprintf("failed calling webhook %q; no further details available", e.name)
}

func (e *errCall) Unwrap() error { return e.reason }

// callCode is the code of an answer that is an error, or that of none.
func callCode(err error) int {
	var status *apierrors.StatusError
	if errors.As(err, &status) {
		return int(status.ErrStatus.Code)
	}
	return http.StatusServiceUnavailable
}

// errDenied is the refusal that a webhook asks for.
type errDenied struct{ *apierrors.StatusError }

// review asks a webhook. The error is an *errCall, an *errDenied or the server's own.
func (c *common) review(ctx context.Context, r *admission.Request, form *admission.Form, asked *admission.Form, h *registered, mutating bool) (*reviewv1.AdmissionResponse, error) {
	if r.DryRun {
		if h.effects == nil {
			return nil, &errCall{h.name, errors.New("Webhook SideEffects is nil"), http.StatusBadRequest} //nolint:staticcheck // upstream's words
		}
		if *h.effects != admissionv1.SideEffectClassNone && *h.effects != admissionv1.SideEffectClassNoneOnDryRun {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", h.name))
		}
	}
	if h.reviewVersion == "" {
		return nil, &errCall{h.name, errors.New("could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"), http.StatusBadRequest}
	}
	request, err := requestOf(r, form, asked)
	if err != nil {
		return nil, &errCall{h.name, fmt.Errorf("could not create admission objects: %w", err), http.StatusBadRequest}
	}
	typ := metav1.TypeMeta{Kind: "AdmissionReview", APIVersion: "admission.k8s.io/" + h.reviewVersion}
	answer := &reviewv1.AdmissionReview{}
	if err := c.call(ctx, h, &reviewv1.AdmissionReview{TypeMeta: typ, Request: request}, answer); err != nil {
		return nil, &errCall{h.name, fmt.Errorf("failed to call webhook: %w", err), callCode(err)}
	}
	if err := verify(answer, typ, request, mutating); err != nil {
		return nil, &errCall{h.name, fmt.Errorf("received invalid webhook response: %w", err), http.StatusServiceUnavailable}
	}
	for k, v := range answer.Response.AuditAnnotations {
		r.Annotate(h.name+"/"+k, v)
	}
	for _, w := range answer.Response.Warnings {
		r.Warn(w)
	}
	if !answer.Response.Allowed {
		return nil, denial(h.name, answer.Response.Result)
	}
	return answer.Response, nil
}

func requestOf(r *admission.Request, form, asked *admission.Form) (*reviewv1.AdmissionRequest, error) {
	extra := map[string]authenticationv1.ExtraValue{}
	for k, v := range r.User.Extra {
		extra[k] = v
	}
	out := &reviewv1.AdmissionRequest{
		UID:  uuid.NewUUID(),
		Kind: metav1.GroupVersionKind(form.Kind), Resource: metav1.GroupVersionResource(form.Resource), SubResource: r.Subresource,
		RequestSubResource: r.Subresource, Name: r.Name, Namespace: r.Namespace, Operation: reviewv1.Operation(r.Operation),
		UserInfo: authenticationv1.UserInfo{Username: r.User.Name, UID: r.User.UID, Groups: r.User.Groups, Extra: extra},
		DryRun:   &r.DryRun,
	}
	kind, resource := metav1.GroupVersionKind(asked.Kind), metav1.GroupVersionResource(asked.Resource)
	out.RequestKind, out.RequestResource = &kind, &resource
	var err error
	if out.Object.Raw, err = encode(form, r.Object); err != nil {
		return nil, err
	}
	if out.OldObject.Raw, err = encode(form, r.OldObject); err != nil {
		return nil, err
	}
	if r.Options != nil {
		out.Options.Raw, err = encodeOptions(r.Options)
	}
	return out, err
}

func encode(form *admission.Form, o runtime.Object) ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	shown, err := form.Of(o)
	if err != nil {
		return nil, err
	}
	return json.Marshal(shown)
}

func encodeOptions(o runtime.Object) ([]byte, error) {
	o = o.DeepCopyObject()
	kind := ""
	switch o.(type) {
	case *metav1.CreateOptions:
		kind = "CreateOptions"
	case *metav1.UpdateOptions:
		kind = "UpdateOptions"
	case *metav1.PatchOptions:
		kind = "PatchOptions"
	case *metav1.DeleteOptions:
		kind = "DeleteOptions"
	}
	o.GetObjectKind().SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind(kind))
	return json.Marshal(o)
}

func verify(answer *reviewv1.AdmissionReview, want metav1.TypeMeta, request *reviewv1.AdmissionRequest, mutating bool) error {
	if answer.Response == nil {
		return errors.New("webhook response was absent")
	}
	if want.APIVersion != "admission.k8s.io/v1" {
		return nil
	}
	response := answer.Response
	switch {
	case response.UID != request.UID:
		return fmt.Errorf("expected response.uid=%q, got %q", request.UID, response.UID)
	case answer.TypeMeta != want:
		return fmt.Errorf("expected webhook response of %v, got %v", want.GroupVersionKind().String(), answer.GroupVersionKind().String())
	case !mutating && len(response.Patch) > 0:
		return errors.New("validating webhook may not return response.patch")
	case !mutating && response.PatchType != nil:
		return errors.New("validating webhook may not return response.patchType")
	case mutating && len(response.Patch) > 0 && response.PatchType == nil:
		return errors.New("webhook returned response.patch but not response.patchType")
	case mutating && len(response.Patch) == 0 && response.PatchType != nil:
		return errors.New("webhook returned response.patchType but not response.patch")
	case response.PatchType != nil && *response.PatchType == "":
		return fmt.Errorf("webhook returned invalid response.patchType of %q", *response.PatchType)
	}
	return nil
}

// denial words a refusal.
func denial(name string, result *metav1.Status) *errDenied {
	by := fmt.Sprintf("admission webhook %q denied the request", name)
	if result == nil {
		result = &metav1.Status{}
	}
	out := *result
	if out.Status == "" || out.Status == metav1.StatusSuccess {
		out.Status = metav1.StatusFailure
	}
	out.Code = max(out.Code, http.StatusBadRequest)
	switch {
	case out.Message != "":
		out.Message = by + ": " + out.Message
	case out.Reason != "":
		out.Message = by + ": " + string(out.Reason)
	default:
		out.Message = by + " without explanation"
	}
	return &errDenied{&apierrors.StatusError{ErrStatus: out}}
}

// settle says what a webhook's error means for the request: nil if the webhook may fail, which the audit log then tells under a key.
func (c *common) settle(r *admission.Request, h *registered, err error, failedOpen string) error {
	var failed *errCall
	var denied *errDenied
	switch {
	case errors.As(err, &denied):
		return denied.StatusError
	case !errors.As(err, &failed):
		return err
	case !h.ignore:
		return apierrors.NewInternalError(failed)
	}
	if !errors.Is(failed.reason, context.Canceled) {
		c.metrics.failedOpen(h, c.step)
		r.Annotate(failedOpen, h.name)
	}
	return nil
}
