package csrsigning

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/pki"
)

const (
	// maxLife is how long a certificate lives that asks for no shorter life.
	maxLife = 365 * 24 * time.Hour
	minLife = 10 * time.Minute
	// backdate lets machines whose clocks are behind use a certificate at once. A life of less than short isn't shortened by it.
	backdate = 5 * time.Minute
	short    = 8 * time.Hour

	legacySigner = "kubernetes.io/legacy-unknown"
)

// rules tell, by signer, why a request is not one for it.
var rules = map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
	certificatesv1.KubeletServingSignerName:             pki.CheckKubeletServing,
	certificatesv1.KubeAPIServerClientKubeletSignerName: pki.CheckKubeletClient,
	certificatesv1.KubeAPIServerClientSignerName:        checkClient,
	legacySigner: func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error { return nil },
}

func checkClient(_ *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	for _, u := range usages {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth:
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !slices.Contains(usages, certificatesv1.UsageClientAuth) {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}

// due tells whether a request waits to be signed here.
func due(r *certificatesv1.CertificateSigningRequest) bool {
	has := func(t certificatesv1.RequestConditionType) bool {
		return slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == t })
	}
	return rules[r.Spec.SignerName] != nil && len(r.Status.Certificate) == 0 &&
		has(certificatesv1.CertificateApproved) && !has(certificatesv1.CertificateDenied) && !has(certificatesv1.CertificateFailed)
}

// answer returns the request with its certificate, or with the condition that it failed.
func answer(r *certificatesv1.CertificateSigningRequest, by *pki.Authority, now time.Time) (*certificatesv1.CertificateSigningRequest, error) {
	out := r.DeepCopy()
	x, err := pki.ParseRequest(r.Spec.Request)
	if err != nil {
		return nil, fmt.Errorf("unable to parse csr %q: %w", r.Name, err)
	}
	if err := rules[r.Spec.SignerName](x, r.Spec.Usages); err != nil {
		out.Status.Conditions = append(out.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type:           certificatesv1.CertificateFailed,
			Status:         corev1.ConditionTrue,
			Reason:         "SignerValidationFailure",
			Message:        err.Error(),
			LastUpdateTime: metav1.NewTime(now),
		})
		return out, nil
	}
	out.Status.Certificate, err = sign(x, r.Spec.Usages, r.Spec.ExpirationSeconds, by, now)
	if err != nil {
		return nil, fmt.Errorf("error auto signing csr: %w", err)
	}
	return out, nil
}

// sign signs a request. The holder's names are the request's; what the certificate is good for was approved with it.
func sign(x *x509.CertificateRequest, usages []certificatesv1.KeyUsage, seconds *int32, by *pki.Authority, now time.Time) ([]byte, error) {
	if err := x.CheckSignature(); err != nil {
		return nil, fmt.Errorf("unable to verify certificate request signature: %w", err)
	}
	usage, extended, err := usagesOf(usages)
	if err != nil {
		return nil, err
	}
	if end := by.Cert.NotAfter; !now.Before(end) {
		return nil, fmt.Errorf("refusing to sign a certificate that expired in the past: NotAfter=%v", end)
	}
	life := lifeOf(seconds)
	end := now.Add(life)
	if life >= short {
		end = end.Add(-backdate)
	}
	der, err := by.Sign(&x509.Certificate{
		Subject:        x.Subject,
		DNSNames:       x.DNSNames,
		IPAddresses:    x.IPAddresses,
		EmailAddresses: x.EmailAddresses,
		URIs:           x.URIs,
		KeyUsage:       usage,
		ExtKeyUsage:    extended,
		NotBefore:      now.Add(-backdate),
		NotAfter:       end,
	}, x.PublicKey)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func lifeOf(seconds *int32) time.Duration {
	if seconds == nil {
		return maxLife
	}
	return min(max(time.Duration(*seconds)*time.Second, minLife), maxLife)
}
