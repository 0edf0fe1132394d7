package images

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	dockerHub     = "index.docker.io"
	dockerHubHost = "docker.io"
)

// entry is one registry's credentials, as docker's configuration files have them.
type entry struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// Credential is what one secret offers.
type Credential struct {
	Auth   *runtimeapi.AuthConfig
	secret pullSecret
}

// Credentials returns what pull secrets offer for an image, the most specific first. Entries that cannot be read are passed over, as one
// broken secret must not hide the others.
func Credentials(secrets []*corev1.Secret, image string) []Credential {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil
	}
	repository := reference.Domain(named) + "/" + reference.Path(named)
	type match struct {
		key string
		Credential
	}
	var found []match
	for _, s := range secrets {
		for key, e := range entries(s) {
			if !matches(key, repository) {
				continue
			}
			if auth := e.auth(); auth != nil {
				hash := sha256.Sum256([]byte(strings.Join([]string{auth.Username, auth.Password}, "\x00")))
				found = append(found, match{key, Credential{auth, pullSecret{string(s.UID), s.Namespace, s.Name, hex.EncodeToString(hash[:])}}})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b match) int { return cmp.Compare(b.key, a.key) })
	var out []Credential
	for _, m := range found {
		out = append(out, m.Credential)
	}
	return out
}

func entries(s *corev1.Secret) map[string]entry {
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		var config struct {
			Auths map[string]entry `json:"auths"`
		}
		if json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config) == nil {
			return config.Auths
		}
	case corev1.SecretTypeDockercfg:
		var auths map[string]entry
		if json.Unmarshal(s.Data[corev1.DockerConfigKey], &auths) == nil {
			return auths
		}
	}
	return nil
}

func (e entry) auth() *runtimeapi.AuthConfig {
	if e.Auth != "" {
		data, err := base64.StdEncoding.DecodeString(e.Auth)
		if err != nil {
			data, err = base64.RawStdEncoding.DecodeString(e.Auth)
		}
		user, password, ok := strings.Cut(string(data), ":")
		if err == nil && ok {
			return &runtimeapi.AuthConfig{Username: user, Password: password}
		}
	}
	if e.Username == "" && e.Password == "" {
		return nil
	}
	return &runtimeapi.AuthConfig{Username: e.Username, Password: e.Password}
}

// matches tells whether a key such as https://*.example.com:5000/team covers a repository.
func matches(key, repository string) bool {
	if !strings.Contains(key, "://") {
		key = "https://" + key
	}
	u, err := url.Parse(key)
	if err != nil {
		return false
	}
	host, rest, _ := strings.Cut(repository, "/")
	want := u.Host
	if want == dockerHub {
		want = dockerHubHost
	}
	if !hostMatches(want, host) {
		return false
	}
	// Docker's own registry is written with the version of its API, which is no part of an image's name.
	prefix := strings.Trim(u.Path, "/")
	if prefix == "v1" || prefix == "v2" {
		prefix = ""
	}
	return strings.HasPrefix(rest, prefix)
}

func hostMatches(pattern, host string) bool {
	p, h := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(p) != len(h) {
		return false
	}
	for i := range p {
		if ok, err := path.Match(p[i], h[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
