package encryption

import (
	"bytes"
	"testing"
)

// FuzzFromStorage reads arbitrary values as they could lie in etcd, behind every prefix.
func FuzzFromStorage(f *testing.F) {
	cfg, err := environment{}.parse([]byte("kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers: [" +
		keyed("secretbox", key1, key2) + "," + keyed("aesgcm", key1) + "," + keyed("aescbc", key2) + ",{identity: {}}]\n"))
	if err != nil {
		f.Fatal(err)
	}
	const key = "/registry/secrets/ns/a"
	tr := cfg.For(secrets)
	for _, provider := range cfg.rules[0].transformer.(prefixed) {
		stored, err := prefixed{provider}.ToStorage(f.Context(), key, []byte("value"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(stored)
	}
	f.Add([]byte("k8s:enc:kms:v2:plugin:\x0a\x01x"))
	f.Fuzz(func(t *testing.T, stored []byte) {
		before := bytes.Clone(stored)
		value, _, err := tr.FromStorage(t.Context(), key, stored)
		if !bytes.Equal(stored, before) {
			t.Error("the stored value was changed")
		}
		if err != nil {
			return
		}
		again, err := tr.ToStorage(t.Context(), key, value)
		if err != nil {
			t.Fatal(err)
		}
		if got, stale, err := tr.FromStorage(t.Context(), key, again); err != nil || stale || !bytes.Equal(got, value) {
			t.Errorf("got %q, %v, %v", got, stale, err)
		}
	})
}

// FuzzEnvelope reads arbitrary bytes as what a key management plugin's envelope is.
func FuzzEnvelope(f *testing.F) {
	e := envelope{}
	raw, err := e.marshal()
	if err == nil {
		f.Add(raw)
	}
	f.Add([]byte("\x0a\x03abc\x12\x01k\x1a\x02dd\x22\x06\x0a\x01a\x12\x01b\x28\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := unmarshalEnvelope(data)
		if err != nil {
			return
		}
		if e.validate() != nil {
			return
		}
		raw, err := e.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := unmarshalEnvelope(raw)
		if err != nil || again.cacheKey() != e.cacheKey() {
			t.Errorf("got %+v, %v; want %+v", again, err, e)
		}
	})
}
