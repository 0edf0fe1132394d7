package plugins

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/exposition/expositiontest"
)

func certificateFor(t *testing.T, life time.Duration) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Unix(1e9, 0)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begin, NotAfter: begin.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestCertificatesThatLiveAsLongAsAskedForAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	lives, err := newCertificateLives(registry)
	if err != nil {
		t.Fatal(err)
	}
	hour := int32(3600)
	issue := func(asked *int32, life time.Duration, committed bool) {
		old := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: "kubernetes.io/kubelet-serving", ExpirationSeconds: asked}}
		signed := old.DeepCopy()
		signed.Status.Certificate = certificateFor(t, life)
		r := request(admission.Update, "status", signed, old)
		CertificateSigning{lives: lives}.Finish(t.Context(), r, committed)
		r = request(admission.Update, "status", signed, signed) // something else of it is written
		CertificateSigning{lives: lives}.Finish(t.Context(), r, committed)
	}
	issue(&hour, time.Hour+5*time.Minute, true)
	issue(&hour, 24*time.Hour, true)
	issue(nil, time.Hour, true)
	issue(&hour, time.Hour, false)
	shown := expositiontest.Gather(t, registry)
	for name, want := range map[string]float64{"requested": 2, "honored": 1} {
		if got := expositiontest.Sum(shown["apiserver_certificates_registry_csr_"+name+"_duration_total"]); got != want {
			t.Errorf("%s: %v, not %v", name, got, want)
		}
	}
}
