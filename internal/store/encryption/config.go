package encryption

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"sigs.k8s.io/yaml"

	"clipper.dev/clipper/internal/durable"
	"clipper.dev/clipper/internal/store"
)

// Config says how resources are encrypted. Read-only after it was read.
type Config struct {
	rules   []rule // the first that matches a resource counts
	plugins []*plugin
}

type rule struct {
	resources   []schema.GroupResource // Resource may be "*", Group too
	transformer store.Transformer
}

// readOrCreate reads a configuration file; if it is missing, it makes one that encrypts Secrets with a new key.
func readOrCreate(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = newConfig(); err == nil {
			err = durable.WriteFile(path, data, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the encryption configuration: %w", err)
	}
	return data, nil
}

func newConfig() ([]byte, error) {
	key := make([]byte, secretboxKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make an encryption key: %w", err)
	}
	return yaml.Marshal(apiserverv1.EncryptionConfiguration{
		TypeMeta: metav1.TypeMeta{Kind: "EncryptionConfiguration", APIVersion: apiserverv1.SchemeGroupVersion.String()},
		Resources: []apiserverv1.ResourceConfiguration{{
			Resources: []string{"secrets"},
			Providers: []apiserverv1.ProviderConfiguration{
				{Secretbox: &apiserverv1.SecretboxConfiguration{Keys: []apiserverv1.Key{{Name: "key1", Secret: base64.StdEncoding.EncodeToString(key)}}}},
				{Identity: &apiserverv1.IdentityConfiguration{}},
			},
		}},
	})
}

// parse reads a configuration in YAML or JSON. Its plugins are not asked anything yet, so that nothing is read or written with them.
func (env environment) parse(data []byte) (*Config, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	o, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, err
	}
	file, ok := o.(*apiserver.EncryptionConfiguration)
	if !ok {
		return nil, fmt.Errorf("got unexpected config type: %T", o)
	}
	if errs := validation.ValidateEncryptionConfiguration(file, env.reload); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	cfg := &Config{}
	for i, r := range file.Resources {
		t, err := cfg.providers(r.Providers, env)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("resources[%d]: %w", i, err), cfg.close())
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

// providers makes what decrypts and encrypts by one entry of the file: each key is one, as is each plugin.
func (c *Config) providers(all []apiserver.ProviderConfiguration, env environment) (prefixed, error) {
	var out prefixed
	for i, p := range all {
		var err error
		switch {
		case p.Identity != nil:
			out = append(out, provided{transformer: identity{}})
		case p.Secretbox != nil:
			out, err = withKeys(out, "secretbox", p.Secretbox.Keys, newSecretbox)
		case p.AESGCM != nil:
			out, err = withKeys(out, "aesgcm", p.AESGCM.Keys, newGCM)
		case p.AESCBC != nil:
			out, err = withKeys(out, "aescbc", p.AESCBC.Keys, newCBC)
		case p.KMS != nil:
			var k *plugin
			if k, err = c.plugin(p.KMS, env); err == nil {
				out = append(out, provided{prefix: "k8s:enc:kms:v2:" + p.KMS.Name + ":", transformer: k})
			}
		}
		if err != nil {
			return nil, fmt.Errorf("providers[%d]: %w", i, err)
		}
	}
	return out, nil
}

func withKeys(out prefixed, provider string, keys []apiserver.Key, make func(key []byte) (store.Transformer, error)) (prefixed, error) {
	for _, key := range keys {
		secret, err := base64.StdEncoding.DecodeString(key.Secret)
		if err != nil {
			return nil, fmt.Errorf("could not obtain secret for named key %s: %w", key.Name, err)
		}
		t, err := make(secret)
		if err != nil {
			return nil, fmt.Errorf("%s: key %s: %w", provider, key.Name, err)
		}
		out = append(out, provided{prefix: "k8s:enc:" + provider + ":v1:" + key.Name + ":", transformer: t})
	}
	return out, nil
}

// plugin connects to a KMS plugin.
func (c *Config) plugin(cfg *apiserver.KMSConfiguration, env environment) (*plugin, error) {
	if cfg.APIVersion != "v2" {
		return nil, errors.New("KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.") //nolint:revive,staticcheck // upstream's words
	}
	p, err := newPlugin(cfg, env)
	if err != nil {
		return nil, fmt.Errorf("could not configure KMSv2-Plugin's probe %q: %w", cfg.Name, err)
	}
	c.plugins = append(c.plugins, p)
	return p, nil
}

// close gives up the connections to plugins.
func (c *Config) close() error {
	var errs []error
	for _, p := range c.plugins {
		errs = append(errs, p.conn.Close())
	}
	return errors.Join(errs...)
}
