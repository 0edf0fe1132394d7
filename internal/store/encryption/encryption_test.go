package encryption

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

var secrets = schema.GroupResource{Resource: "secrets"}

// key is 32 bytes in base64.
const (
	key1 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	key2 = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

func parse(t *testing.T, resource, providers string) *Config {
	t.Helper()
	cfg, err := environment{}.parse([]byte("kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [\"" + resource + "\"]\n  providers: [" + providers + "]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func keyed(provider string, keys ...string) string {
	var parts []string
	for i, k := range keys {
		parts = append(parts, fmt.Sprintf("{name: k%d%c, secret: %q}", i, k[1], k))
	}
	return fmt.Sprintf("{%s: {keys: [%s]}}", provider, strings.Join(parts, ","))
}

func TestValuesRoundTripUnderUpstreamsPrefix(t *testing.T) {
	for _, provider := range []string{"secretbox", "aesgcm", "aescbc"} {
		t.Run(provider, func(t *testing.T) {
			tr := parse(t, "secrets", "{"+provider+": {keys: [{name: key1, secret: \""+key1+"\"}]}}").For(secrets)
			for _, value := range []string{"", "x", strings.Repeat("0123456789abcdef", 100)} {
				stored, err := tr.ToStorage(t.Context(), "/registry/secrets/ns/a", []byte(value))
				if err != nil || !bytes.HasPrefix(stored, []byte("k8s:enc:"+provider+":v1:key1:")) || value != "" && bytes.Contains(stored, []byte(value)) && len(value) > 1 {
					t.Fatalf("got %q, %v", stored, err)
				}
				got, stale, err := tr.FromStorage(t.Context(), "/registry/secrets/ns/a", stored)
				if err != nil || stale || string(got) != value {
					t.Errorf("got %q, %v, %v", got, stale, err)
				}
			}
		})
	}
}

func TestChangedValuesAreRefused(t *testing.T) {
	for _, provider := range []string{"secretbox", "aesgcm"} {
		tr := parse(t, "secrets", keyed(provider, key1)).For(secrets)
		stored, err := tr.ToStorage(t.Context(), "/registry/secrets/ns/a", []byte("value"))
		if err != nil {
			t.Fatal(err)
		}
		stored[len(stored)-1] ^= 1
		if _, _, err := tr.FromStorage(t.Context(), "/registry/secrets/ns/a", stored); err == nil {
			t.Errorf("%s: a changed value was accepted", provider)
		}
	}
	tr := parse(t, "secrets", keyed("aesgcm", key1)).For(secrets)
	stored, _ := tr.ToStorage(t.Context(), "/registry/secrets/ns/a", []byte("value"))
	if _, _, err := tr.FromStorage(t.Context(), "/registry/secrets/ns/b", stored); err == nil {
		t.Error("a value was accepted under another's key")
	}
	for _, data := range []string{"", "k8s:enc:aesgcm:v1:k0A:", "k8s:enc:aesgcm:v1:k0A:short", "k8s:enc:other:v1:x:y"} {
		if _, _, err := tr.FromStorage(t.Context(), "k", []byte(data)); err == nil {
			t.Errorf("%q was accepted", data)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	before := parse(t, "secrets", keyed("secretbox", key1)+",{identity: {}}").For(secrets)
	after := parse(t, "secrets", keyed("aesgcm", key2)+","+keyed("secretbox", key1)+",{identity: {}}").For(secrets)
	old, err := before.ToStorage(t.Context(), "k", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	for name, stored := range map[string][]byte{"the old key's": old, "what was never encrypted": []byte("value")} {
		got, stale, err := after.FromStorage(t.Context(), "k", stored)
		if err != nil || !stale || string(got) != "value" {
			t.Errorf("%s: got %q, %v, %v", name, got, stale, err)
		}
	}
	newer, _ := after.ToStorage(t.Context(), "k", []byte("value"))
	if _, _, err := before.FromStorage(t.Context(), "k", newer); err == nil || !strings.Contains(err.Error(), "no matching prefix found") {
		t.Errorf("got %v", err)
	}
}

func TestResourcesAreMatchedInOrder(t *testing.T) {
	for _, c := range []struct {
		pattern string
		gr      schema.GroupResource
		want    bool
	}{
		{"secrets", secrets, true},
		{"secrets", schema.GroupResource{Group: "x", Resource: "secrets"}, false},
		{"deployments.apps", schema.GroupResource{Group: "apps", Resource: "deployments"}, true},
		{"*.apps", schema.GroupResource{Group: "apps", Resource: "x"}, true},
		{"*.apps", secrets, false},
		{"*.", secrets, true},
		{"*.", schema.GroupResource{Group: "apps", Resource: "x"}, false},
		{"*.*", schema.GroupResource{Group: "apps", Resource: "x"}, true},
	} {
		if got := parse(t, c.pattern, "{identity: {}}").For(c.gr) != nil; got != c.want {
			t.Errorf("%s for %v: %v", c.pattern, c.gr, got)
		}
	}
}

func TestTheFirstStartMakesAKeyAndLaterOnesKeepIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	first, err := Open(t.Context(), Options{Path: path, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	stored, err := first.For(secrets).ToStorage(t.Context(), "k", []byte("value"))
	if err != nil || !bytes.HasPrefix(stored, []byte("k8s:enc:secretbox:v1:key1:")) {
		t.Fatalf("got %q, %v", stored, err)
	}
	second, err := Open(t.Context(), Options{Path: path, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, stale, err := second.For(secrets).FromStorage(t.Context(), "k", stored); string(got) != "value" || stale || err != nil {
		t.Errorf("got %q, %v, %v", got, stale, err)
	}
	if second.For(schema.GroupResource{Resource: "configmaps"}) != nil {
		t.Error("config maps are encrypted")
	}
}

func TestMalformedFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"another kind":      "kind: Pod\napiVersion: v1\n",
		"an unknown field":  "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nsurprise: 1\n",
		"a short key":       "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: [{resources: [secrets], providers: [{secretbox: {keys: [{name: a, secret: AAAA}]}}]}]\n",
		"no provider":       "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: [{resources: [secrets], providers: []}]\n",
		"an empty provider": "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: [{resources: [secrets], providers: [{}]}]\n",
	} {
		if _, err := (environment{}).parse([]byte(text)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
