package audit

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// A Record follows one request. The methods of a nil Record do nothing.
type Record struct {
	auditor *Auditor
	rule    *auditv1.PolicyRule

	mu    sync.Mutex // guards event: handlers annotate from several goroutines
	event auditv1.Event
	ended bool
}

// A Request is what a record begins with.
type Request struct {
	ID         string
	Received   time.Time
	Attributes authorizer.Attributes
	URI, Agent string
	SourceIPs  []string
}

// RequestOf describes a request that came over HTTP.
func RequestOf(r *http.Request, a authorizer.Attributes, id string, received time.Time) Request {
	out := Request{ID: id, Received: received, Attributes: a, URI: r.URL.RequestURI(), Agent: r.UserAgent()}
	for _, ip := range utilnet.SourceIPs(r) {
		out.SourceIPs = append(out.SourceIPs, ip.String())
	}
	return out
}

// maxAgent bounds the user agent that is recorded.
const maxAgent = 1024

// Begin asks the policy, and records that the request was received. It returns nil if the policy doesn't want the request, and an error if
// it must not be served because it couldn't be recorded.
func (a *Auditor) Begin(r Request) (*Record, error) {
	if a == nil {
		return nil, nil
	}
	rule := ruleFor(a.policy, r.Attributes)
	if rule == nil {
		a.metrics.level(auditv1.LevelNone)
		return nil, nil
	}
	a.metrics.level(rule.Level)
	if len(r.Agent) > maxAgent {
		r.Agent = r.Agent[:maxAgent] + "...TRUNCATED"
	}
	at := r.Attributes
	rec := &Record{auditor: a, rule: rule, event: auditv1.Event{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: auditv1.SchemeGroupVersion.String()},
		Level:    rule.Level, AuditID: types.UID(r.ID), RequestURI: r.URI, Verb: at.GetVerb(), UserAgent: r.Agent, SourceIPs: r.SourceIPs,
		RequestReceivedTimestamp: metav1.NewMicroTime(r.Received),
	}}
	if u := at.GetUser(); u != nil {
		rec.event.User = userInfo(u)
	}
	if at.IsResourceRequest() {
		rec.event.ObjectRef = &auditv1.ObjectReference{
			Namespace: at.GetNamespace(), Name: at.GetName(), Resource: at.GetResource(), Subresource: at.GetSubresource(),
			APIGroup: at.GetAPIGroup(), APIVersion: at.GetAPIVersion(),
		}
	}
	if !rec.send(auditv1.StageRequestReceived) {
		a.metrics.rejected.Inc()
		return nil, errors.New("failed to store audit event")
	}
	return rec, nil
}

func userInfo(u user.Info) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

// Wants tells whether the policy asks for bodies of requests and answers.
func (r *Record) Wants() (request, answer bool) {
	if r == nil {
		return false, false
	}
	return r.rule.Level == auditv1.LevelRequest || r.rule.Level == auditv1.LevelRequestResponse, r.rule.Level == auditv1.LevelRequestResponse
}

// Impersonated records whom the request acts for, and by which constrained leave, if any.
func (r *Record) Impersonated(u user.Info, constraint string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	info := userInfo(u)
	r.event.ImpersonatedUser = &info
	if constraint != "" {
		r.event.AuthenticationMetadata = &auditv1.AuthenticationMetadata{ImpersonationConstraint: constraint}
	}
}

// Annotate adds annotations. The first value of a key stays.
func (r *Record) Annotate(all map[string]string) {
	if r == nil || len(all) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.event.Annotations == nil {
		r.event.Annotations = map[string]string{}
	}
	for k, v := range all {
		if _, there := r.event.Annotations[k]; there || r.rule.Level == auditv1.LevelMetadata && strings.HasPrefix(k, patchPrefix) {
			continue
		}
		r.event.Annotations[k] = v
	}
}

// patchPrefix begins the keys of annotations that hold parts of bodies.
const patchPrefix = "patch.webhook.admission.k8s.io/"

// Object records the object of a request: what it is, and, if the policy wants bodies, its JSON.
func (r *Record) Object(o metav1.Object, json []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ref := r.event.ObjectRef; ref != nil && o != nil {
		ref := *ref // stages that were sent share the former
		fill(&ref.Namespace, o.GetNamespace())
		fill(&ref.Name, o.GetName())
		fill(&ref.ResourceVersion, o.GetResourceVersion())
		if ref.UID == "" {
			ref.UID = o.GetUID()
		}
		r.event.ObjectRef = &ref
	}
	if wants, _ := r.Wants(); wants {
		r.event.RequestObject = r.unknown(json)
	}
}

func fill(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// unknown holds a body, if it is JSON.
func (r *Record) unknown(json []byte) *runtime.Unknown {
	json = normalize(json, *r.rule.OmitManagedFields)
	if json == nil {
		return nil
	}
	return &runtime.Unknown{Raw: json, ContentType: runtime.ContentTypeJSON}
}

// An Answer is how a request ended.
type Answer struct {
	Code int
	// Status is the one that was sent, if one was.
	Status *metav1.Status
	// JSON is the body, if the policy wants it.
	JSON []byte
}

// Started records that a request that lasts long begins to answer.
func (r *Record) Started(a Answer) {
	if r == nil {
		return
	}
	r.answered(a)
	r.send(auditv1.StageResponseStarted)
}

// Complete records the end of a request.
func (r *Record) Complete(a Answer) {
	if r == nil {
		return
	}
	r.answered(a)
	r.end(auditv1.StageResponseComplete)
}

// Panicked records that the handler panicked.
func (r *Record) Panicked(v any) {
	if r == nil {
		return
	}
	r.answered(Answer{Code: http.StatusInternalServerError, Status: &metav1.Status{
		Code: http.StatusInternalServerError, Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: fmt.Sprintf("APIServer panic'd: %v", v),
	}})
	r.end(auditv1.StagePanic)
}

func (r *Record) answered(a Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := &metav1.Status{}
	if s := a.Status; s != nil {
		status.Status, status.Message, status.Reason, status.Details = s.Status, s.Message, s.Reason, s.Details
	}
	if a.Code == 0 {
		status.Status, status.Message, a.Code = metav1.StatusSuccess, "Connection closed early", http.StatusOK
	}
	status.Code = int32(a.Code)
	r.event.ResponseStatus = status
	if _, wants := r.Wants(); wants && a.JSON != nil {
		r.event.ResponseObject = r.unknown(a.JSON)
	}
}

// end sends the last stage, once.
func (r *Record) end(s auditv1.Stage) {
	r.mu.Lock()
	ended := r.ended
	r.ended = true
	r.mu.Unlock()
	if !ended {
		r.send(s)
	}
}

// send gives the sinks the event as it is at a stage. What later stages change is copied.
func (r *Record) send(s auditv1.Stage) bool {
	if slices.Contains(r.rule.OmitStages, s) {
		return true
	}
	r.mu.Lock()
	event := r.event
	event.Annotations = maps.Clone(event.Annotations)
	r.mu.Unlock()
	event.Stage, event.StageTimestamp = s, metav1.NewMicroTime(time.Now())
	if s == auditv1.StageRequestReceived {
		event.StageTimestamp = event.RequestReceivedTimestamp
	}
	return r.auditor.process(&event)
}
