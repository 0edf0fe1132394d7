package plugins

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
)

// certificateLives counts, under upstream's names, certificates that were issued to who had asked for how long they live, and those that live about that long.
type certificateLives struct{ requested, honored *prometheus.CounterVec }

func newCertificateLives(r prometheus.Registerer) (*certificateLives, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_certificates_registry_csr_" + name,
			Help: help + ", sliced by signer (only kubernetes.io signer names are specifically identified)"}, []string{"signerName"})
	}
	l := &certificateLives{
		requested: counter("requested_duration_total", "Total number of issued CSRs with a requested duration"),
		honored:   counter("honored_duration_total", "Total number of issued CSRs with a requested duration that was honored"),
	}
	if r == nil {
		return l, nil
	}
	if err := errors.Join(r.Register(l.requested), r.Register(l.honored)); err != nil {
		return nil, fmt.Errorf("register the metrics of certificates' lives: %w", err)
	}
	return l, nil
}

// issued counts a request that was written, if it has got its certificate by that.
func (l *certificateLives) issued(old, csr *certificatesv1.CertificateSigningRequest) {
	if len(old.Status.Certificate) > 0 || len(csr.Status.Certificate) == 0 || old.Spec.ExpirationSeconds == nil {
		return
	}
	signer := old.Spec.SignerName
	if !strings.HasPrefix(signer, "kubernetes.io/") {
		signer = "other"
	}
	l.requested.WithLabelValues(signer).Inc()
	block, _ := pem.Decode(csr.Status.Certificate)
	if block == nil {
		return // validation lets nothing else in
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return
	}
	want := time.Duration(*old.Spec.ExpirationSeconds) * time.Second
	// Signers date a certificate back by up to five minutes.
	if off := (want - cert.NotAfter.Sub(cert.NotBefore)).Abs(); off < 5*time.Minute+want/20 {
		l.honored.WithLabelValues(signer).Inc()
	}
}
