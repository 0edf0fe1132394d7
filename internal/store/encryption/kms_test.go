package encryption

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kmsv2 "k8s.io/kms/apis/v2"
)

// kms is a KMS plugin. It "encrypts" by turning bits around.
type kms struct {
	kmsv2.UnimplementedKeyManagementServiceServer
	mu       sync.Mutex
	keyID    string
	health   string
	decrypts int
	statuses int
}

// asked is how often the plugin's status was asked for.
func (k *kms) asked() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.statuses
}

func (k *kms) Status(context.Context, *kmsv2.StatusRequest) (*kmsv2.StatusResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.statuses++
	return &kmsv2.StatusResponse{Version: "v2", Healthz: k.health, KeyId: k.keyID}, nil
}

func (k *kms) Encrypt(_ context.Context, r *kmsv2.EncryptRequest) (*kmsv2.EncryptResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &kmsv2.EncryptResponse{Ciphertext: turned(r.Plaintext), KeyId: k.keyID, Annotations: map[string][]byte{"by.example.com": []byte(k.keyID)}}, nil
}

func (k *kms) Decrypt(_ context.Context, r *kmsv2.DecryptRequest) (*kmsv2.DecryptResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.decrypts++
	if string(r.Annotations["by.example.com"]) != r.KeyId {
		return nil, errors.New("another key's annotations")
	}
	return &kmsv2.DecryptResponse{Plaintext: turned(r.Ciphertext)}, nil
}

func (k *kms) set(keyID, health string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keyID, k.health = keyID, health
}

func turned(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = ^b[i]
	}
	return out
}

// startKMS serves a plugin, and returns what a configuration names it by.
func startKMS(t *testing.T) (*kms, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "kms") // short, for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	k := &kms{keyID: "key-1", health: "ok"}
	s := grpc.NewServer()
	kmsv2.RegisterKeyManagementServiceServer(s, k)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return k, fmt.Sprintf("{kms: {apiVersion: v2, name: cloud, endpoint: %q}}", "unix://"+l.Addr().String())
}

// openPlugin reads a configuration whose first provider is the plugin, at a time that the test sets.
func openPlugin(t *testing.T, provider string, now *time.Time) (*Config, *plugin) {
	t.Helper()
	env := environment{now: func() time.Time { return *now }}
	cfg, err := env.parse([]byte("kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers: [" + provider + ", {identity: {}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cfg.close() })
	return cfg, cfg.plugins[0]
}

func TestAPluginsKeyEncrypts(t *testing.T) {
	k, provider := startKMS(t)
	now := time.Now()
	cfg, p := openPlugin(t, provider, &now)
	tr := cfg.For(secrets)
	if _, err := tr.ToStorage(t.Context(), "k", []byte("value")); err == nil {
		t.Error("a value was written before the plugin had answered")
	}
	if err := p.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored, err := tr.ToStorage(t.Context(), "k", []byte("value"))
	if err != nil || !bytes.HasPrefix(stored, []byte("k8s:enc:kms:v2:cloud:")) || bytes.Contains(stored, []byte("value")) {
		t.Fatalf("got %q, %v", stored, err)
	}
	if got, stale, err := tr.FromStorage(t.Context(), "k", stored); string(got) != "value" || stale || err != nil {
		t.Errorf("got %q, %v, %v", got, stale, err)
	}
	if _, _, err := tr.FromStorage(t.Context(), "other", stored); err == nil {
		t.Error("a value was accepted under another's key")
	}
	if k.decrypts != 0 {
		t.Errorf("the plugin was asked %d times for what was known", k.decrypts)
	}

	// Another server knows the data key only from the plugin, and asks once.
	cfg, p = openPlugin(t, provider, &now)
	if err := p.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got, stale, err := cfg.For(secrets).FromStorage(t.Context(), "k", stored); string(got) != "value" || stale || err != nil {
			t.Errorf("got %q, %v, %v", got, stale, err)
		}
	}
	if k.decrypts != 1 {
		t.Errorf("the plugin was asked %d times", k.decrypts)
	}
}

func TestAPluginsNewKeyIsHeeded(t *testing.T) {
	k, provider := startKMS(t)
	now := time.Now()
	cfg, p := openPlugin(t, provider, &now)
	tr := cfg.For(secrets)
	if err := p.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, err := tr.ToStorage(t.Context(), "k", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	k.set("key-2", "ok")
	if err := p.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, stale, err := tr.FromStorage(t.Context(), "k", old); string(got) != "value" || !stale || err != nil {
		t.Errorf("the old key's value: got %q, %v, %v", got, stale, err)
	}
	renewed, err := tr.ToStorage(t.Context(), "k", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	if _, stale, err := tr.FromStorage(t.Context(), "k", renewed); stale || err != nil {
		t.Errorf("the new key's value: got %v, %v", stale, err)
	}
}

func TestADataKeyThatIsNotConfirmedEncryptsNoMore(t *testing.T) {
	k, provider := startKMS(t)
	now := time.Now()
	cfg, p := openPlugin(t, provider, &now)
	tr := cfg.For(secrets)
	if err := p.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored, err := tr.ToStorage(t.Context(), "k", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(writeFor + time.Second)
	if _, err := tr.ToStorage(t.Context(), "k", []byte("value")); err == nil || !strings.Contains(err.Error(), "expired at") {
		t.Errorf("got %v", err)
	}
	if _, _, err := tr.FromStorage(t.Context(), "k", stored); err != nil {
		t.Errorf("reading stopped too: %v", err)
	}
	if err := p.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.ToStorage(t.Context(), "k", []byte("value")); err != nil {
		t.Errorf("after the plugin confirmed the key: %v", err)
	}
	for status, want := range map[[2]string]string{
		{"key-1", "tired"}:                "kmsv2 Provider cloud is not healthy, error: got unexpected healthz status: tired",
		{"", "ok"}:                        "keyID is empty",
		{strings.Repeat("x", 2000), "ok"}: "which exceeds the max size of 1024",
	} {
		k.set(status[0], status[1])
		if err := p.probe(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := p.healthy(t.Context()); err == nil {
		t.Error("it is called healthy")
	}
}

func TestTheFileIsFollowed(t *testing.T) {
	k, provider := startKMS(t)
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	c, err := Open(t.Context(), Options{Path: path, Create: true, Reload: true})
	if err != nil {
		t.Fatal(err)
	}
	maps := schema.GroupResource{Resource: "configmaps"}
	before, err := c.For(secrets).ToStorage(t.Context(), "k", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := c.For(maps).ToStorage(t.Context(), "k", []byte("value"))
	if err != nil || string(plain) != "value" {
		t.Fatalf("got %q, %v", plain, err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	_, secret, _ := strings.Cut(string(first), "secret: ")
	secret, _, _ = strings.Cut(secret, "\n")
	next := "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets, configmaps]\n  providers: [" +
		provider + ", {secretbox: {keys: [{name: key1, secret: " + secret + "}]}}, {identity: {}}]\n"
	inForce := func(content string, reached func() bool) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); !reached(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("nothing happened with\n%s", content)
			}
		}
	}
	encrypts := func(prefix string) bool {
		now, err := c.For(secrets).ToStorage(t.Context(), "k", []byte("value"))
		return err == nil && bytes.HasPrefix(now, []byte(prefix))
	}
	k.set("key-1", "tired")
	inForce(next, func() bool { return k.asked() > 0 })
	if !encrypts("k8s:enc:secretbox:v1:key1:") {
		t.Error("a plugin that is not well was accepted")
	}
	k.set("key-1", "ok")
	inForce("# again\n"+next, func() bool { return encrypts("k8s:enc:kms:v2:cloud:") })
	for _, gr := range []schema.GroupResource{secrets, maps} {
		now, err := c.For(gr).ToStorage(t.Context(), "k", []byte("value"))
		if err != nil || !bytes.HasPrefix(now, []byte("k8s:enc:kms:v2:cloud:")) {
			t.Errorf("%v: got %q, %v", gr, now, err)
		}
	}
	for what, stored := range map[string][]byte{"what secretbox wrote": before, "what nobody encrypted": plain} {
		if got, stale, err := c.For(secrets).FromStorage(t.Context(), "k", stored); string(got) != "value" || !stale || err != nil {
			t.Errorf("%s: got %q, %v, %v", what, got, stale, err)
		}
	}
	if checks := c.Checks(); len(checks) != 1 || checks[0].Name != "kms-providers" || checks[0].Do(t.Context()) != nil {
		t.Errorf("got %v", checks)
	}
}

func TestWhatAPluginRefusedIsReadAgain(t *testing.T) {
	k, provider := startKMS(t)
	again := make(chan struct{}, 1)
	now := time.Now()
	env := environment{now: func() time.Time { return now }, readable: func(context.Context) error {
		again <- struct{}{}
		return nil
	}}
	cfg, err := env.parse([]byte("kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers: [" + provider + "]\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.close()
	writer, p := openPlugin(t, provider, &now)
	if err := p.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored, err := writer.For(secrets).ToStorage(t.Context(), "k", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cfg.For(secrets).FromStorage(t.Context(), "k", stored); err == nil {
		t.Fatal("it was read before the plugin was asked")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); cfg.plugins[0].run(ctx) }()
	<-again
	if got, _, err := cfg.For(secrets).FromStorage(t.Context(), "k", stored); string(got) != "value" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	cancel()
	<-done
	if k.asked() == 0 {
		t.Error("the plugin was not asked")
	}
}
