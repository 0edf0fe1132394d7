package cluster

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func parsed(t *testing.T, args ...string) *ServerOptions {
	t.Helper()
	var o ServerOptions
	f := pflag.NewFlagSet("server", pflag.ContinueOnError)
	o.AddFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestFlagsOfServing(t *testing.T) {
	for _, c := range []struct{ name, arg, refusal string }{
		{"none", "", ""},
		{"a request that may last no time", "--request-timeout=0s", "--request-timeout must be positive"},
		{"a watch that may last no time", "--min-request-timeout=0", "--min-request-timeout must be positive"},
		{"events that aren't kept", "--event-ttl=0s", "--event-ttl must be positive"},
		{"tokens that live too short", "--service-account-max-token-expiration=10m", "must be between 1 hour and 2^32 seconds"},
		{"an issuer that is no URL", "--service-account-issuer=:x", "contained a ':' but was not a valid URL"},
		{"keys without TLS", "--service-account-jwks-uri=http://x", "requires https scheme"},
		{"an unknown version of TLS", "--tls-min-version=VersionTLS14", "unknown tls version \"VersionTLS14\""},
		{"an unknown cipher suite", "--tls-cipher-suites=FOO", "Cipher suite FOO not supported or doesn't exist"},
		{"an unknown admission plugin", "--enable-admission-plugins=Foo", `enable-admission-plugins plugin "Foo" is unknown`},
		{"an unknown admission plugin to leave out", "--disable-admission-plugins=Foo", `disable-admission-plugins plugin "Foo" is unknown`},
		{"a limit of events that isn't configured", "--enable-admission-plugins=EventRateLimit", "EventRateLimit needs a configuration"},
		{"a file that isn't there", "--admission-control-config-file=/nowhere", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := parsed(t, strings.Fields(c.arg)...).validate()
			if c.refusal == "" && err != nil || c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTLSIsNarrowedAsFlagsSay(t *testing.T) {
	o := parsed(t, "--tls-min-version=VersionTLS13", "--tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
	var cfg tls.Config
	if err := o.secure(&cfg); err != nil || cfg.MinVersion != tls.VersionTLS13 || !slices.Equal(cfg.CipherSuites, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}) {
		t.Errorf("got %x %x, %v", cfg.MinVersion, cfg.CipherSuites, err)
	}
	if o := parsed(t); o.RequestTimeout != time.Minute || o.secure(&cfg) != nil || len(o.Issuers) != 1 {
		t.Errorf("the defaults are %+v", o.ServingOptions)
	}
	if o := parsed(t, "--service-account-issuer=https://a", "--service-account-issuer=https://b"); !slices.Equal(o.Issuers, []string{"https://a", "https://b"}) {
		t.Errorf("the issuers are %q", o.Issuers)
	}
}

func TestAdmissionPluginsAreConfiguredByAFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("security.yaml", "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n")
	const header = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n"
	file := write("admission.yaml", header+"- name: PodSecurity\n  path: security.yaml\n- name: EventRateLimit\n  configuration: {kind: Configuration}\n")
	got, err := parsed(t, "--admission-control-config-file="+file).plugins()
	if err != nil || !strings.Contains(string(got.Configurations["PodSecurity"]), "PodSecurityConfiguration") || string(got.Configurations["EventRateLimit"]) != `{"kind":"Configuration"}` {
		t.Errorf("got %q, %v", got.Configurations, err)
	}
	for content, refusal := range map[string]string{
		header + "- name: ImagePolicyWebhook\n  configuration: {}\n": `admission plugin "ImagePolicyWebhook" takes no configuration here`,
		header + "- name: PodSecurity\n  path: missing.yaml\n":       "read the configuration of PodSecurity",
		header + "- nome: PodSecurity\n":                             `unknown field "plugins[0].nome"`,
		"kind: Pod\napiVersion: v1\n":                                "no kind \"Pod\" is registered",
	} {
		if _, err := parsed(t, "--admission-control-config-file="+write("bad.yaml", content)).plugins(); err == nil || !strings.Contains(err.Error(), refusal) {
			t.Errorf("%s: got %v", content, err)
		}
	}
}
