package csrcleaner

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"clipper.dev/clipper/internal/pki"
)

const (
	answeredLife = time.Hour
	pendingLife  = 24 * time.Hour
)

// deleteAt returns when a request may go.
func deleteAt(r *certificatesv1.CertificateSigningRequest) time.Time {
	at := r.CreationTimestamp.Add(pendingLife)
	approved := false
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			at = earlier(at, c.LastUpdateTime.Add(answeredLife))
		case certificatesv1.CertificateApproved:
			approved = true
			if len(r.Status.Certificate) > 0 {
				at = earlier(at, c.LastUpdateTime.Add(answeredLife))
			}
		}
	}
	if certs, err := pki.ParseCerts(r.Status.Certificate); approved && err == nil {
		at = earlier(at, certs[0].NotAfter)
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
