package csrcleaner

import (
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhenARequestMayGo(t *testing.T) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name      string
		condition certificatesv1.RequestConditionType
		issued    bool
		want      time.Duration
	}{
		{"an open one after a day", "", false, 24 * time.Hour},
		{"a denied one an hour later", certificatesv1.CertificateDenied, false, 2 * time.Hour},
		{"an issued one an hour later", certificatesv1.CertificateApproved, true, 2 * time.Hour},
		{"one that was approved and not signed after a day", certificatesv1.CertificateApproved, false, 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made)}}
			if c.condition != "" {
				r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: c.condition, LastUpdateTime: metav1.NewTime(made.Add(time.Hour))}}
			}
			if c.issued {
				r.Status.Certificate = []byte("x")
			}
			if got := deleteAt(r).Sub(made); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
