package samedatabase

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	kmsv2 "k8s.io/kms/apis/v2"
)

// plugin is a KMS plugin. It "encrypts" by turning bits around.
type plugin struct {
	kmsv2.UnimplementedKeyManagementServiceServer
}

func (plugin) Status(context.Context, *kmsv2.StatusRequest) (*kmsv2.StatusResponse, error) {
	return &kmsv2.StatusResponse{Version: "v2", Healthz: "ok", KeyId: "key-1"}, nil
}

func (plugin) Encrypt(_ context.Context, r *kmsv2.EncryptRequest) (*kmsv2.EncryptResponse, error) {
	return &kmsv2.EncryptResponse{Ciphertext: turned(r.Plaintext), KeyId: "key-1", Annotations: map[string][]byte{"a.example.com": []byte("x"), "b.example.com": []byte("y")}}, nil
}

func (plugin) Decrypt(_ context.Context, r *kmsv2.DecryptRequest) (*kmsv2.DecryptResponse, error) {
	return &kmsv2.DecryptResponse{Plaintext: turned(r.Ciphertext)}, nil
}

func turned(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = ^b[i]
	}
	return out
}

// TestBothServersUseOneKMSPlugin lets each read what the other encrypted, by every provider.
func TestBothServersUseOneKMSPlugin(t *testing.T) {
	prepare(t)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	kmsv2.RegisterKeyManagementServiceServer(s, plugin{})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	key := "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	providers := []struct{ prefix, text string }{
		{"k8s:enc:kms:v2:cloud:", fmt.Sprintf("{kms: {apiVersion: v2, name: cloud, endpoint: %q}}", "unix://"+l.Addr().String())},
		{"k8s:enc:aesgcm:v1:k:", "{aesgcm: {keys: [{name: k, secret: " + key + "}]}}"},
		{"k8s:enc:aescbc:v1:k:", "{aescbc: {keys: [{name: k, secret: " + key + "}]}}"},
		{"k8s:enc:secretbox:v1:k:", "{secretbox: {keys: [{name: k, secret: " + key + "}]}}"},
	}
	address, db := startEtcd(t)
	for i, p := range providers {
		config := "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers:\n  - " + p.text + "\n"
		for _, other := range append(append([]struct{ prefix, text string }{}, providers[i+1:]...), providers[:i]...) {
			config += "  - " + other.text + "\n"
		}
		file := filepath.Join(t.TempDir(), "encryption.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Clipper", "kube-apiserver"} {
			s := sides[name].up(t, address, "--encryption-provider-config", file)
			client, err := kubernetes.NewForConfig(s.config(t))
			if err != nil {
				t.Fatal(err)
			}
			secrets := client.CoreV1().Secrets(metav1.NamespaceDefault)
			made := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%d-%d", i, len(name))}, Data: map[string][]byte{"k": []byte("value")}}
			if _, err := secrets.Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			list, err := secrets.List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, secret := range list.Items {
				if secret.Data["k"] != nil && string(secret.Data["k"]) != "value" {
					t.Errorf("%s reads %s as %q", name, secret.Name, secret.Data["k"])
				}
			}
			resp, err := db.Get(t.Context(), "/registry/secrets/default/"+made.Name)
			if err != nil || len(resp.Kvs) != 1 || !bytes.HasPrefix(resp.Kvs[0].Value, []byte(p.prefix)) {
				t.Errorf("%s stores by another provider than %s: %v", name, p.prefix, err)
			}
			s.process.stop()
		}
	}
}
