package core

import (
	"crypto/tls"
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// Secrets is the row of core/v1 Secret.
var Secrets = api.Register(&api.Resource{
	Name:         "secrets",
	Singular:     "secret",
	Kind:         "Secret",
	Namespaced:   true,
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[corev1.Secret, corev1.SecretList]("v1")},
	Prefix:       "secrets",

	Default: api.On(defaultSecret),
	PrepareUpdate: api.OnUpdate(func(n, o *corev1.Secret) {
		if n.Type == "" {
			n.Type = o.Type
		}
	}),
	Validate:                 api.Check(validateSecret),
	ValidateUpdate:           api.CheckUpdate(validateSecretUpdate),
	Warnings:                 api.Warn(secretWarnings),
	AllowUnconditionalUpdate: true,

	Fields: map[string]func(api.Object) string{
		"type": api.Select(func(s *corev1.Secret) string { return string(s.Type) }),
	},
	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Type", "string", corev1.Secret{}.SwaggerDoc()["type"]),
		api.Column("Data", "string", corev1.Secret{}.SwaggerDoc()["data"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(s *corev1.Secret, p api.PrintOptions) []any {
		return []any{s.Name, string(s.Type), int64(len(s.Data)), api.Age(s.CreationTimestamp, p)}
	}),
})

// defaultSecret also moves the write-only stringData into data.
func defaultSecret(s *corev1.Secret) {
	setString(&s.Type, corev1.SecretTypeOpaque)
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

func validateSecret(s *corev1.Secret) (e check.Errors) {
	data := field.NewPath("data")
	size := 0
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		e.Messages(data.Key(key), key, validation.IsConfigMapKey(key))
		size += len(s.Data[key])
	}
	if size > maxDataBytes {
		e.TooLong(data, maxDataBytes)
	}
	e.Add(validateSecretType(s, data)...)
	return e
}

// validateSecretType requires what the consumers of well-known types expect.
func validateSecretType(s *corev1.Secret, data *field.Path) (e check.Errors) {
	require := func(keys ...string) {
		for _, key := range keys {
			if _, there := s.Data[key]; !there {
				e.Required(data.Key(key), "")
			}
		}
	}
	requireJSON := func(key string) {
		content, there := s.Data[key]
		if !there {
			e.Required(data.Key(key), "")
			return
		}
		if err := json.Unmarshal(content, &map[string]any{}); err != nil {
			e.Invalid(data.Key(key), "<secret contents redacted>", err.Error())
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		e.NonEmpty(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), s.Annotations[corev1.ServiceAccountNameKey])
	case corev1.SecretTypeDockercfg:
		requireJSON(corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		requireJSON(corev1.DockerConfigJsonKey)
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			require(corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey)
		}
	case corev1.SecretTypeSSHAuth:
		e.NonEmpty(data.Key(corev1.SSHAuthPrivateKey), string(s.Data[corev1.SSHAuthPrivateKey]))
	case corev1.SecretTypeTLS:
		require(corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	return e
}

func validateSecretUpdate(s, old *corev1.Secret) (e check.Errors) {
	e.Unchanged(field.NewPath("type"), s.Type, old.Type)
	if old.Immutable != nil && *old.Immutable {
		const msg = "field is immutable when `immutable` is set"
		if s.Immutable == nil || !*s.Immutable {
			e.Forbidden(field.NewPath("immutable"), msg)
		}
		if !reflect.DeepEqual(s.Data, old.Data) {
			e.Forbidden(field.NewPath("data"), msg)
		}
	}
	e.Add(validateSecret(s)...)
	return e
}

func secretWarnings(s, _ *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}
