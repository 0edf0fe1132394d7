package certificates

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/pki"
)

func request(t *testing.T, change ...func(*certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: "example.com/x", Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
	}}
	for _, f := range change {
		f(r)
	}
	return r
}

func with(types ...certificatesv1.RequestConditionType) func(*certificatesv1.CertificateSigningRequest) {
	return func(r *certificatesv1.CertificateSigningRequest) {
		for _, t := range types {
			r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: t, Status: "True"})
		}
	}
}

func certificate(data string) func(*certificatesv1.CertificateSigningRequest) {
	return func(r *certificatesv1.CertificateSigningRequest) { r.Status.Certificate = []byte(data) }
}

func TestNewRequests(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*certificatesv1.CertificateSigningRequest)
		want   string
	}{
		{"a good one", func(*certificatesv1.CertificateSigningRequest) {}, ""},
		{"no PEM", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Request = []byte("x") }, `spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST`},
		{"no usages", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Usages = nil }, "spec.usages: Required value"},
		{"an unknown usage", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Usages[0] = "odd" }, `spec.usages[0]: Unsupported value: "odd": supported values: "any", "cert sign", "client auth"`},
		{"a usage twice", func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Usages = append(r.Spec.Usages, r.Spec.Usages[0])
		}, `spec.usages[1]: Duplicate value: "client auth"`},
		{"no signer", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "" }, "spec.signerName: Required value"},
		{"a signer without a path", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "x" }, "must be a fully qualified domain and path of the form 'example.com/signer-name'"},
		{"a signer without a domain", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "x/y" }, "should be a domain with at least two segments separated by dots"},
		{"the legacy signer", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = legacySigner }, "the legacy signerName is not allowed via this API version"},
		{"a short life", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.ExpirationSeconds = ptr.To[int32](599) }, "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			errs := CertificateSigningRequests.Validate(request(t, c.change))
			if c.want == "" && len(errs) > 0 || c.want != "" && (len(errs) == 0 || !strings.Contains(errs[0].Error(), c.want)) {
				t.Errorf("got %v", errs.ToAggregate())
			}
		})
	}
}

func TestWhoMayChangeWhat(t *testing.T) {
	type rule = func(n, old api.Object)
	row := CertificateSigningRequests
	status, approval := row.Status, row.Subresources[0]
	for _, c := range []struct {
		name     string
		prepare  rule
		validate func(n, old api.Object) (msg string)
		old, now []func(*certificatesv1.CertificateSigningRequest)
		want     string
	}{
		{"a signer issues", status.PrepareUpdate, func(n, o api.Object) string { return text(status.ValidateUpdate(n, o)) },
			[]func(*certificatesv1.CertificateSigningRequest){with("Approved")}, []func(*certificatesv1.CertificateSigningRequest){with("Approved"), certificate("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")}, "found CERTIFICATE PEM block containing 0 certificates"},
		{"a signer doesn't approve", status.PrepareUpdate, func(n, o api.Object) string { return text(status.ValidateUpdate(n, o)) },
			nil, []func(*certificatesv1.CertificateSigningRequest){with("Approved")}, `status.conditions: Forbidden: updates may not add a condition of type "Approved"`},
		{"an approver approves", approval.PrepareUpdate, func(n, o api.Object) string { return text(approval.ValidateUpdate(n, o)) },
			nil, []func(*certificatesv1.CertificateSigningRequest){with("Approved")}, ""},
		{"not both ways", approval.PrepareUpdate, func(n, o api.Object) string { return text(approval.ValidateUpdate(n, o)) },
			nil, []func(*certificatesv1.CertificateSigningRequest){with("Approved", "Denied")}, "Approved and Denied conditions are mutually exclusive"},
		{"approval stays", approval.PrepareUpdate, func(n, o api.Object) string { return text(approval.ValidateUpdate(n, o)) },
			[]func(*certificatesv1.CertificateSigningRequest){with("Approved")}, nil, `updates may not remove a condition of type "Approved"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := request(t, c.old...)
			now := old.DeepCopy()
			now.Status = certificatesv1.CertificateSigningRequestStatus{}
			for _, f := range c.now {
				f(now)
			}
			c.prepare(now, old)
			if got := c.validate(now, old); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func text[E error](errs []E) string {
	var parts []string
	for _, e := range errs {
		parts = append(parts, e.Error())
	}
	return strings.Join(parts, "; ")
}

func TestCellsTellTheCondition(t *testing.T) {
	for want, changes := range map[string][]func(*certificatesv1.CertificateSigningRequest){
		"Pending":         nil,
		"Denied":          {with("Denied")},
		"Approved,Issued": {with("Approved"), certificate("x")},
		"Approved,Failed": {with("Approved", "Failed")},
	} {
		cells := CertificateSigningRequests.Cells(request(t, changes...), api.PrintOptions{})
		if got := cells[len(cells)-1]; got != want || len(cells) != len(CertificateSigningRequests.Columns) {
			t.Errorf("got %v, want %s", cells, want)
		}
	}
}
