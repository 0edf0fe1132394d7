package certificates

import (
	"context"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1" // whose descriptions upstream prints
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"clipper.dev/clipper/internal/api"
)

// CertificateSigningRequests is the row of certificates.k8s.io/v1 CertificateSigningRequest.
var CertificateSigningRequests = api.Register(&api.Resource{
	Group:        certificatesv1.GroupName,
	Name:         "certificatesigningrequests",
	Singular:     "certificatesigningrequest",
	Kind:         "CertificateSigningRequest",
	ShortNames:   []string{"csr"},
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[certificatesv1.CertificateSigningRequest, certificatesv1.CertificateSigningRequestList]("v1")},
	Prefix:       "certificatesigningrequests",

	PrepareCreate: api.On(func(r *certificatesv1.CertificateSigningRequest) {
		r.Status = certificatesv1.CertificateSigningRequestStatus{} // nobody makes a request that is approved already
	}),
	PrepareUpdate: api.OnUpdate(func(n, old *certificatesv1.CertificateSigningRequest) {
		n.Spec, n.Status = old.Spec, old.Status
	}),
	Validate:                 api.Check(validateCreate),
	ValidateUpdate:           api.CheckUpdate(validateUpdate),
	NameRule:                 func(string, bool) []string { return nil },
	AllowUnconditionalUpdate: true,
	Hooks:                    api.Hooks{BeginCreate: recordRequestor},
	ResetFields:              []string{"spec", "status"},

	Fields: map[string]func(api.Object) string{
		"spec.signerName": api.Select(func(r *certificatesv1.CertificateSigningRequest) string { return r.Spec.SignerName }),
	},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.AgeColumn,
		api.Column("SignerName", "string", specDoc["signerName"]),
		api.Column("Requestor", "string", specDoc["request"]),
		api.Column("RequestedDuration", "string", specDoc["expirationSeconds"]),
		api.Column("Condition", "string", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
	},
	Cells: api.Print(cells),

	Status: &api.Status{
		MetaOnUpdate:   "NU",
		PrepareUpdate:  api.OnUpdate(prepareStatus),
		ValidateUpdate: api.CheckUpdate(validateStatus),
		ResetFields:    []string{"spec", "status.conditions"},
	},
	Subresources: []api.Subresource{{
		Name:           "approval",
		MetaOnUpdate:   "NU",
		Verbs:          []string{"get", "patch", "update"},
		PrepareUpdate:  api.OnUpdate(prepareApproval),
		ValidateUpdate: api.CheckUpdate(validateApproval),
		ResetFields:    []string{"spec", "status.certificate"},
	}},
})

var specDoc = certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()

// recordRequestor writes who asks into the request, whatever it says itself.
func recordRequestor(ctx context.Context, env api.Env, o api.Object, _ bool) (func(bool), error) {
	r, u := o.(*certificatesv1.CertificateSigningRequest), env.User(ctx)
	r.Spec.Username, r.Spec.UID, r.Spec.Groups, r.Spec.Extra = u.Name, u.UID, slices.Clone(u.Groups), nil
	for k, v := range u.Extra {
		if r.Spec.Extra == nil {
			r.Spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		r.Spec.Extra[k] = slices.Clone(v)
	}
	return func(bool) {}, nil
}

// prepareStatus lets a signer set the certificate and conditions of its own, not approval.
func prepareStatus(n, old *certificatesv1.CertificateSigningRequest) {
	n.Spec = old.Spec
	keepConditions(n, old, certificatesv1.CertificateApproved)
	keepConditions(n, old, certificatesv1.CertificateDenied)
	stampConditions(n, old)
}

// prepareApproval lets an approver set conditions.
func prepareApproval(n, old *certificatesv1.CertificateSigningRequest) {
	stampConditions(n, old)
	conditions := n.Status.Conditions
	n.Spec, n.Status = old.Spec, old.Status
	n.Status.Conditions = conditions
}

// keepConditions restores conditions of a type. When some were added or removed, validation refuses that.
func keepConditions(n, old *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) {
	before, after := conditionsOf(old, t), conditionsOf(n, t)
	if len(before) != len(after) {
		return
	}
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			n.Status.Conditions[i], before = before[0], before[1:]
		}
	}
}

func conditionsOf(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) []certificatesv1.CertificateSigningRequestCondition {
	var out []certificatesv1.CertificateSigningRequestCondition
	for _, c := range r.Status.Conditions {
		if c.Type == t {
			out = append(out, c)
		}
	}
	return out
}

// stampConditions fills in times that are missing.
func stampConditions(n, old *certificatesv1.CertificateSigningRequest) {
	now := metav1.NewTime(time.Now())
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, o := range old.Status.Conditions {
			if o.Type == c.Type && o.Status == c.Status && !o.LastTransitionTime.IsZero() {
				c.LastTransitionTime = o.LastTransitionTime
				break
			}
		}
	}
}

func cells(r *certificatesv1.CertificateSigningRequest, p api.PrintOptions) []any {
	signer, life := "<none>", "<none>"
	if r.Spec.SignerName != "" {
		signer = r.Spec.SignerName
	}
	if s := r.Spec.ExpirationSeconds; s != nil {
		life = duration.HumanDuration(time.Duration(*s) * time.Second)
	}
	return []any{r.Name, api.Age(r.CreationTimestamp, p), signer, r.Spec.Username, life, condition(r)}
}

func condition(r *certificatesv1.CertificateSigningRequest) string {
	out := "Pending"
	switch {
	case len(conditionsOf(r, certificatesv1.CertificateDenied)) > 0:
		out = "Denied"
	case len(conditionsOf(r, certificatesv1.CertificateApproved)) > 0:
		out = "Approved"
	}
	if len(conditionsOf(r, certificatesv1.CertificateFailed)) > 0 {
		out += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		out += ",Issued"
	}
	return out
}
