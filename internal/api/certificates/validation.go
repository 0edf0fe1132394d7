package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/pki"
)

// legacySigner is the signer of requests made through an API version that is gone.
const legacySigner = "kubernetes.io/legacy-unknown"

// usages are all that there are, sorted as messages list them.
var usages = slices.Sorted(slices.Values([]certificatesv1.KeyUsage{
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign,
	certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth,
	certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME,
	certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping,
	certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
}))

var approvalTypes = []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied}

// may says what an update is allowed to do, and which faults it may keep because the object had them before.
type may struct {
	approve, issue bool

	keepBoth, keepLegacySigner, keepDuplicateTypes, keepEmptyType, keepCertificate, keepUnknownUsages, keepDuplicateUsages bool
}

// faultsOf returns the faults that an update of old may keep.
func faultsOf(r, old *certificatesv1.CertificateSigningRequest) may {
	types := map[certificatesv1.RequestConditionType]int{}
	for _, c := range old.Status.Conditions {
		types[c.Type]++
	}
	m := may{
		keepBoth:            types[certificatesv1.CertificateApproved] > 0 && types[certificatesv1.CertificateDenied] > 0,
		keepLegacySigner:    old.Spec.SignerName == legacySigner,
		keepEmptyType:       types[""] > 0,
		keepCertificate:     bytes.Equal(r.Status.Certificate, old.Status.Certificate) || checkCertificate(old.Status.Certificate) != nil,
		keepDuplicateUsages: len(distinct(old.Spec.Usages)) < len(old.Spec.Usages),
	}
	for _, n := range types {
		m.keepDuplicateTypes = m.keepDuplicateTypes || n > 1
	}
	for _, u := range old.Spec.Usages {
		m.keepUnknownUsages = m.keepUnknownUsages || !slices.Contains(usages, u)
	}
	return m
}

func distinct(in []certificatesv1.KeyUsage) map[certificatesv1.KeyUsage]bool {
	out := map[certificatesv1.KeyUsage]bool{}
	for _, u := range in {
		out[u] = true
	}
	return out
}

func validateCreate(r *certificatesv1.CertificateSigningRequest) check.Errors {
	return validate(r, may{})
}

func validateUpdate(r, old *certificatesv1.CertificateSigningRequest) check.Errors {
	return validateChange(r, old, faultsOf(r, old))
}

func validateStatus(r, old *certificatesv1.CertificateSigningRequest) check.Errors {
	m := faultsOf(r, old)
	m.issue = true
	return validateChange(r, old, m)
}

func validateApproval(r, old *certificatesv1.CertificateSigningRequest) check.Errors {
	m := faultsOf(r, old)
	m.approve = true
	return validateChange(r, old, m)
}

func validate(r *certificatesv1.CertificateSigningRequest, m may) check.Errors {
	var errs check.Errors
	at := field.NewPath("spec")
	if err := checkRequest(r.Spec.Request); err != nil {
		errs.Invalid(at.Child("request"), r.Spec.Request, err.Error())
	}
	if len(r.Spec.Usages) == 0 {
		errs.Required(at.Child("usages"), "")
	}
	for i, u := range r.Spec.Usages {
		if !m.keepUnknownUsages && !slices.Contains(usages, u) {
			errs.Add(field.NotSupported(at.Child("usages").Index(i), u, usages))
		}
	}
	seen := map[certificatesv1.KeyUsage]bool{}
	for i, u := range r.Spec.Usages {
		if !m.keepDuplicateUsages && seen[u] {
			errs.Duplicate(at.Child("usages").Index(i), u)
		}
		seen[u] = true
	}
	if !m.keepLegacySigner && r.Spec.SignerName == legacySigner {
		errs.Invalid(at.Child("signerName"), r.Spec.SignerName, "the legacy signerName is not allowed via this API version")
	} else {
		errs = append(errs, validateSignerName(at.Child("signerName"), r.Spec.SignerName)...)
	}
	if s := r.Spec.ExpirationSeconds; s != nil && *s < 600 {
		errs.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration less than 600 seconds (10 minutes)")
	}
	errs = append(errs, validateConditions(r, m)...)
	if !m.keepCertificate {
		if err := checkCertificate(r.Status.Certificate); err != nil {
			errs.Invalid(field.NewPath("status", "certificate"), "<certificate data>", err.Error())
		}
	}
	return errs
}

func validateConditions(r *certificatesv1.CertificateSigningRequest, m may) check.Errors {
	var errs check.Errors
	at := field.NewPath("status", "conditions")
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range r.Status.Conditions {
		if c.Type == "" && !m.keepEmptyType {
			errs.Required(at.Index(i).Child("type"), "")
		}
		allowed := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
		if slices.Contains(approvalTypes, c.Type) || c.Type == certificatesv1.CertificateFailed {
			allowed = []corev1.ConditionStatus{corev1.ConditionTrue}
		}
		switch {
		case c.Status == "":
			errs.Required(at.Index(i).Child("status"), "")
		case !slices.Contains(allowed, c.Status):
			errs.Add(field.NotSupported(at.Index(i).Child("status"), c.Status, allowed))
		}
		opposite := map[certificatesv1.RequestConditionType]certificatesv1.RequestConditionType{
			certificatesv1.CertificateApproved: certificatesv1.CertificateDenied,
			certificatesv1.CertificateDenied:   certificatesv1.CertificateApproved,
		}[c.Type]
		if opposite != "" && seen[opposite] && !m.keepBoth {
			errs.Invalid(at, c.Type, "Approved and Denied conditions are mutually exclusive")
		}
		if seen[c.Type] && !m.keepDuplicateTypes {
			errs.Duplicate(at.Index(i).Child("type"), c.Type)
		}
		seen[c.Type] = true
	}
	return errs
}

func validateChange(r, old *certificatesv1.CertificateSigningRequest, m may) check.Errors {
	errs := validate(r, m)
	at := field.NewPath("status", "conditions")
	for _, t := range append(slices.Clone(approvalTypes), certificatesv1.CertificateFailed) {
		if len(conditionsOf(r, t)) < len(conditionsOf(old, t)) {
			errs.Forbidden(at, fmt.Sprintf("updates may not remove a condition of type %q", t))
		}
	}
	for _, t := range approvalTypes {
		before, after := conditionsOf(old, t), conditionsOf(r, t)
		switch {
		case m.approve || len(after) < len(before):
		case len(after) > len(before):
			errs.Forbidden(at, fmt.Sprintf("updates may not add a condition of type %q", t))
		case !equality.Semantic.DeepEqual(before, after):
			errs.Forbidden(at, fmt.Sprintf("updates may not modify a condition of type %q\n%v", t, diff.Diff(before, after)))
		}
	}
	if bytes.Equal(r.Status.Certificate, old.Status.Certificate) {
		return errs
	}
	certificate := field.NewPath("status", "certificate")
	if !m.issue {
		errs.Forbidden(certificate, "updates may not set certificate content")
	} else if len(old.Status.Certificate) > 0 {
		errs.Forbidden(certificate, "updates may not modify existing certificate content")
	}
	return errs
}

func checkRequest(data []byte) error {
	r, err := pki.ParseRequest(data)
	if err != nil {
		return err
	}
	return r.CheckSignature()
}

// checkCertificate wants PEM blocks of certificates alone.
func checkCertificate(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	blocks := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) != 0 {
			return errors.New("no PEM block headers are permitted")
		}
		certs, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(certs) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		blocks++
	}
	if blocks == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}
