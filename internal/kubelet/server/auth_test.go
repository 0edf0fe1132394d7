package server

import (
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/client/clienttest"
)

func TestATokenThatNobodyReviewsShowsNothing(t *testing.T) {
	r := httptest.NewRequest("GET", "/configz", nil)
	r.Header.Set("Authorization", "Bearer anything")
	for _, let := range []bool{true, false} {
		a := newAccess(Config{Access: Access{Anonymous: let, NoTokens: true}, Client: clienttest.New()}, newRequestMetrics(prometheus.NewRegistry()))
		u, ok, err := a.authenticate(r)
		if err != nil || ok != let || u.name != anonymous.name {
			t.Errorf("anonymous %v: got %q, %v, %v", let, u.name, ok, err)
		}
	}
}
