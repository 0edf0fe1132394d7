package cluster

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"clipper.dev/clipper/internal/pki"
)

func TestKubeletsOfAnotherAuthorityAreTrustedIfItIsNamed(t *testing.T) {
	foreign := httptest.NewTLSServer(http.NotFoundHandler())
	defer foreign.Close()
	keys, err := pki.Open(t.TempDir(), pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: foreign.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	for authorities, trusted := range map[string]bool{"": false, file: true} {
		k, err := openKubelets(&controlPlane{keys: keys}, authorities)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", foreign.Listener.Addr().String(), k.tls())
		if (err == nil) != trusted {
			t.Errorf("with %q: %v", authorities, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	if err := os.WriteFile(file, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openKubelets(&controlPlane{keys: keys}, file); err == nil {
		t.Error("a file without certificates was accepted")
	}
}
