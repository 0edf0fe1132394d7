package csrsigning

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/pki"
)

func request(t *testing.T, signer string, usages []certificatesv1.KeyUsage, x *x509.CertificateRequest) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, x, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "r"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Usages: usages, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		},
		Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: "True"}}},
	}
}

func TestSignersFollowTheirRules(t *testing.T) {
	now := time.Now()
	by, err := pki.NewAuthority("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	client := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	node := pkix.Name{CommonName: "system:node:n", Organization: []string{"system:nodes"}}
	for _, c := range []struct {
		name   string
		signer string
		usages []certificatesv1.KeyUsage
		x      *x509.CertificateRequest
		failed string
	}{
		{"a node's client certificate", certificatesv1.KubeAPIServerClientKubeletSignerName, client, &x509.CertificateRequest{Subject: node}, ""},
		{"not for a master", certificatesv1.KubeAPIServerClientKubeletSignerName, client, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x", Organization: []string{"system:masters"}}}, "subject organization is not system:nodes"},
		{"not with names", certificatesv1.KubeAPIServerClientKubeletSignerName, client, &x509.CertificateRequest{Subject: node, DNSNames: []string{"a"}}, "DNS subjectAltNames are not allowed"},
		{"a serving certificate needs a name", certificatesv1.KubeletServingSignerName, []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}, &x509.CertificateRequest{Subject: node}, "DNS or IP subjectAltName is required"},
		{"and serving's usages", certificatesv1.KubeletServingSignerName, client, &x509.CertificateRequest{Subject: node, DNSNames: []string{"n"}}, "usages did not match [digital signature key encipherment server auth]"},
		{"a user's", certificatesv1.KubeAPIServerClientSignerName, client, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "alice"}}, ""},
		{"a user's is no server's", certificatesv1.KubeAPIServerClientSignerName, []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth}, &x509.CertificateRequest{}, "invalid usage for client certificate: server auth"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(t, c.signer, c.usages, c.x)
			if !due(r) {
				t.Fatal("it isn't due")
			}
			got, err := answer(r, by, now)
			if err != nil {
				t.Fatal(err)
			}
			if c.failed != "" {
				if last := got.Status.Conditions[len(got.Status.Conditions)-1]; last.Type != certificatesv1.CertificateFailed || last.Reason != "SignerValidationFailure" || last.Message != c.failed {
					t.Errorf("got %+v", last)
				}
				return
			}
			certs, err := pki.ParseCerts(got.Status.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := certs[0].Verify(x509.VerifyOptions{Roots: by.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Error(err)
			}
			if certs[0].Subject.CommonName != c.x.Subject.CommonName || certs[0].IsCA {
				t.Errorf("got %v", certs[0].Subject)
			}
		})
	}
}

func TestLifeIsWhatWasAskedForWithinBounds(t *testing.T) {
	for _, c := range []struct {
		seconds *int32
		want    time.Duration
	}{{nil, maxLife}, {ptr.To[int32](1), minLife}, {ptr.To[int32](3600), time.Hour}, {ptr.To[int32](1 << 30), maxLife}} {
		if got := lifeOf(c.seconds); got != c.want {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
}

func TestUnapprovedRequestsAreNotDue(t *testing.T) {
	r := request(t, certificatesv1.KubeAPIServerClientSignerName, nil, &x509.CertificateRequest{})
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateDenied})
	if due(r) {
		t.Error("a denied request is due")
	}
	r.Status.Conditions = nil
	if due(r) {
		t.Error("an open request is due")
	}
	r.Spec.SignerName = "example.com/x"
	r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved}}
	if due(r) {
		t.Error("another signer's request is due")
	}
	if _, _, err := usagesOf([]certificatesv1.KeyUsage{"odd"}); err == nil || !strings.Contains(err.Error(), `unrecognized usage values: ["odd"]`) {
		t.Errorf("got %v", err)
	}
}
