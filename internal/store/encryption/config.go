package encryption

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"clipper.dev/clipper/internal/store"
)

// The file's form, as upstream defines it.
type fileConfig struct {
	Kind       string         `json:"kind"`
	APIVersion string         `json:"apiVersion"`
	Resources  []fileResource `json:"resources"`
}

type fileResource struct {
	Resources []string       `json:"resources"`
	Providers []fileProvider `json:"providers"`
}

type fileProvider struct {
	AESGCM    *fileKeys `json:"aesgcm,omitempty"`
	AESCBC    *fileKeys `json:"aescbc,omitempty"`
	Secretbox *fileKeys `json:"secretbox,omitempty"`
	Identity  *struct{} `json:"identity,omitempty"`
	KMS       *any      `json:"kms,omitempty"`
}

type fileKeys struct {
	Keys []fileKey `json:"keys"`
}

type fileKey struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
}

const (
	configKind    = "EncryptionConfiguration"
	configVersion = "apiserver.config.k8s.io/v1"
)

// Config says how resources are encrypted. Read-only after it was read.
type Config struct {
	rules []rule // the first that matches a resource counts
}

type rule struct {
	resources   []schema.GroupResource // Resource may be "*", Group too
	transformer store.Transformer
}

// OpenOrCreate reads a configuration; if the file is missing, it makes one that encrypts Secrets with a new key.
func OpenOrCreate(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = newConfig(); err == nil {
			err = writeFile(path, data)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the encryption configuration: %w", err)
	}
	cfg, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read the encryption configuration %s: %w", path, err)
	}
	return cfg, nil
}

// writeFile writes a file for its owner alone. It appears whole or not at all.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // its mode is 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func newConfig() ([]byte, error) {
	key := make([]byte, secretboxKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make an encryption key: %w", err)
	}
	return yaml.Marshal(fileConfig{
		Kind:       configKind,
		APIVersion: configVersion,
		Resources: []fileResource{{
			Resources: []string{"secrets"},
			Providers: []fileProvider{
				{Secretbox: &fileKeys{Keys: []fileKey{{Name: "key1", Secret: base64.StdEncoding.EncodeToString(key)}}}},
				{Identity: &struct{}{}},
			},
		}},
	})
}

// Parse reads a configuration in YAML or JSON.
func Parse(data []byte) (*Config, error) {
	var f fileConfig
	if err := yaml.UnmarshalStrict(data, &f); err != nil {
		return nil, err
	}
	if f.Kind != configKind || f.APIVersion != configVersion {
		return nil, fmt.Errorf("the file is a %s of %s, not an %s of %s", f.Kind, f.APIVersion, configKind, configVersion)
	}
	cfg := &Config{}
	for i, r := range f.Resources {
		t, err := r.transformer()
		if err != nil {
			return nil, fmt.Errorf("resources[%d]: %w", i, err)
		}
		rule := rule{transformer: t}
		for _, name := range r.Resources {
			rule.resources = append(rule.resources, parseResource(name))
		}
		cfg.rules = append(cfg.rules, rule)
	}
	return cfg, nil
}

// parseResource reads "secrets", "deployments.apps", "*.apps", "*." (the core group) or "*.*".
func parseResource(name string) schema.GroupResource {
	if core, ok := strings.CutSuffix(name, "."); ok {
		return schema.GroupResource{Resource: core}
	}
	return schema.ParseGroupResource(name)
}

// For returns what encrypts a resource; nil if it is stored as it is.
func (c *Config) For(gr schema.GroupResource) store.Transformer {
	for _, r := range c.rules {
		if slices.ContainsFunc(r.resources, func(want schema.GroupResource) bool {
			return (want.Resource == gr.Resource || want.Resource == "*") && (want.Group == gr.Group || want.Group == "*")
		}) {
			return r.transformer
		}
	}
	return nil
}

// Transformers returns what encrypts each of the resources, without those that are stored as they are.
func (c *Config) Transformers(resources []schema.GroupResource) map[schema.GroupResource]store.Transformer {
	out := map[schema.GroupResource]store.Transformer{}
	for _, gr := range resources {
		if t := c.For(gr); t != nil {
			out[gr] = t
		}
	}
	return out
}

// transformer makes the providers of one entry, each key one of its own.
func (r fileResource) transformer() (store.Transformer, error) {
	if len(r.Resources) == 0 || len(r.Providers) == 0 {
		return nil, errors.New("an entry names resources and providers")
	}
	var out prefixed
	for i, p := range r.Providers {
		more, err := p.transformers()
		if err != nil {
			return nil, fmt.Errorf("providers[%d]: %w", i, err)
		}
		out = append(out, more...)
	}
	return out, nil
}

func (p fileProvider) transformers() (prefixed, error) {
	switch {
	case p.Identity != nil:
		return prefixed{{transformer: identity{}}}, nil
	case p.Secretbox != nil:
		return p.Secretbox.transformers("secretbox", newSecretbox)
	case p.AESGCM != nil:
		return p.AESGCM.transformers("aesgcm", newGCM)
	case p.AESCBC != nil:
		return p.AESCBC.transformers("aescbc", newCBC)
	case p.KMS != nil:
		return nil, errors.New("this server has no kms provider")
	}
	return nil, errors.New("a provider is one of secretbox, aesgcm, aescbc and identity")
}

func (k fileKeys) transformers(provider string, make func(key []byte) (store.Transformer, error)) (prefixed, error) {
	if len(k.Keys) == 0 {
		return nil, fmt.Errorf("%s needs at least one key", provider)
	}
	var out prefixed
	for _, key := range k.Keys {
		if key.Name == "" || strings.Contains(key.Name, ":") {
			return nil, fmt.Errorf("%s: a key needs a name, without colons", provider)
		}
		secret, err := base64.StdEncoding.DecodeString(key.Secret)
		if err != nil {
			return nil, fmt.Errorf("%s: the secret of key %s is not base64", provider, key.Name)
		}
		t, err := make(secret)
		if err != nil {
			return nil, fmt.Errorf("%s: key %s: %w", provider, key.Name, err)
		}
		out = append(out, provided{prefix: "k8s:enc:" + provider + ":v1:" + key.Name + ":", transformer: t})
	}
	return out, nil
}
