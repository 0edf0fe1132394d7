package authn

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/pki"
)

// BenchmarkServiceAccountToken is what a token costs that was seen before.
func BenchmarkServiceAccountToken(b *testing.B) {
	keys, err := pki.Open(b.TempDir(), pki.Options{})
	if err != nil {
		b.Fatal(err)
	}
	c := clienttest.New(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "u"}})
	a, err := New(b.Context(), c, Config{TokenKey: keys.TokenKey()})
	if err != nil {
		b.Fatal(err)
	}
	token, _, err := a.IssueToken(b.Context(), api.TokenRequest{Namespace: "ns", ServiceAccount: "sa", ServiceAccountUID: "u", Expiry: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := a.AuthenticateToken(b.Context(), token); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
