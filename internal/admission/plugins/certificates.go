package plugins

import (
	"bytes"
	"context"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/authn"
	"clipper.dev/clipper/internal/pki"
)

// CertificateApproval lets those approve requests for a signer's certificates who may "approve" for it.
type CertificateApproval struct {
	authorizer authorizer.Authorizer
}

// CertificateSigning lets those sign requests for a signer's certificates who may "sign" for it.
type CertificateSigning struct {
	authorizer authorizer.Authorizer
	lives      *certificateLives
}

// CertificateSubjectRestriction keeps anybody from asking for a certificate of system:masters.
type CertificateSubjectRestriction struct{}

var (
	_ admission.Validator = CertificateApproval{}
	_ admission.Finisher  = CertificateSigning{}
	_ admission.Validator = CertificateSubjectRestriction{}
)

// Name implements admission.Plugin.
func (CertificateApproval) Name() string { return "CertificateApproval" }

// Handles implements admission.Selective.
func (CertificateApproval) Handles(op admission.Operation) bool {
	return op == admission.Update
}

// Validate implements admission.Validator. It asks about the stored request: the signer cannot be changed on the way.
func (p CertificateApproval) Validate(ctx context.Context, r *admission.Request) error {
	if !concerns(r, certificatesv1.GroupName, "certificatesigningrequests", "approval") || r.Operation != admission.Update {
		return nil
	}
	csr, ok := r.OldObject.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbidf(r, "expected type CertificateSigningRequest, got: %T", r.OldObject)
	}
	if !maySign(ctx, p.authorizer, r, "approve", csr.Spec.SignerName) {
		return forbidf(r, "user not permitted to approve requests with signerName %q", csr.Spec.SignerName)
	}
	return nil
}

// Name implements admission.Plugin.
func (CertificateSigning) Name() string { return "CertificateSigning" }

// Handles implements admission.Selective.
func (CertificateSigning) Handles(op admission.Operation) bool {
	return op == admission.Update
}

// Validate implements admission.Validator.
func (p CertificateSigning) Validate(ctx context.Context, r *admission.Request) error {
	if !concerns(r, certificatesv1.GroupName, "certificatesigningrequests", "status") || r.Operation != admission.Update {
		return nil
	}
	old, ok := r.OldObject.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbidf(r, "expected type CertificateSigningRequest, got: %T", r.OldObject)
	}
	csr, ok := r.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbidf(r, "expected type CertificateSigningRequest, got: %T", r.Object)
	}
	if bytes.Equal(old.Status.Certificate, csr.Status.Certificate) && equality.Semantic.DeepEqual(old.Status.Conditions, csr.Status.Conditions) {
		return nil
	}
	if !maySign(ctx, p.authorizer, r, "sign", old.Spec.SignerName) {
		return forbidf(r, "user not permitted to sign requests with signerName %q", old.Spec.SignerName)
	}
	return nil
}

// Finish implements admission.Finisher.
func (p CertificateSigning) Finish(_ context.Context, r *admission.Request, committed bool) {
	if !committed || r.DryRun || !concerns(r, certificatesv1.GroupName, "certificatesigningrequests", "status") {
		return
	}
	p.lives.issued(r.OldObject.(*certificatesv1.CertificateSigningRequest), r.Object.(*certificatesv1.CertificateSigningRequest))
}

// maySign asks for a signer by its name, and for all signers of its domain.
func maySign(ctx context.Context, az authorizer.Authorizer, r *admission.Request, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		decision, _, err := az.Authorize(ctx, authorizer.AttributesRecord{
			User:            authn.User(r.User),
			Verb:            verb,
			Name:            name,
			APIGroup:        certificatesv1.GroupName,
			APIVersion:      "*",
			Resource:        "signers",
			ResourceRequest: true,
		})
		if err == nil && decision == authorizer.DecisionAllow {
			return true
		}
	}
	return false
}

// Name implements admission.Plugin.
func (CertificateSubjectRestriction) Name() string { return "CertificateSubjectRestriction" }

// Handles implements admission.Selective.
func (CertificateSubjectRestriction) Handles(op admission.Operation) bool {
	return op == admission.Create
}

// Validate implements admission.Validator.
func (CertificateSubjectRestriction) Validate(_ context.Context, r *admission.Request) error {
	if !concerns(r, certificatesv1.GroupName, "certificatesigningrequests", "") || r.Operation != admission.Create {
		return nil
	}
	csr, ok := r.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbidf(r, "expected type CertificateSigningRequest, got: %T", r.Object)
	}
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	req, err := pki.ParseRequest(csr.Spec.Request)
	if err != nil {
		return forbidf(r, "failed to parse CSR: %v", err)
	}
	if slices.Contains(req.Subject.Organization, "system:masters") {
		return forbidf(r, "use of %s signer with system:masters group is not allowed", certificatesv1.KubeAPIServerClientSignerName)
	}
	return nil
}
