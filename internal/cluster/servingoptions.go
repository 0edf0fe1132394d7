package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"

	"clipper.dev/clipper/internal/authn"
)

// ServingOptions say how requests are served. The flags are upstream's.
type ServingOptions struct {
	RequestTimeout    time.Duration
	MinRequestSeconds int
	EventTTL          time.Duration
	Profiling         bool

	TLSMinVersion   string
	TLSCipherSuites []string

	// Issuers of service accounts' tokens: the first signs. JWKSURI is where others find the keys, if not here.
	Issuers      []string
	JWKSURI      string
	MaxTokenLife time.Duration
}

func (o *ServingOptions) addFlags(f *pflag.FlagSet) {
	f.DurationVar(&o.RequestTimeout, "request-timeout", time.Minute, "how long a request may last that is no watch and no stream")
	f.IntVar(&o.MinRequestSeconds, "min-request-timeout", 1800, "seconds that a watch lasts at least that doesn't say; it ends before twice that")
	f.DurationVar(&o.EventTTL, "event-ttl", time.Hour, "how long events are kept")
	f.BoolVar(&o.Profiling, "profiling", true, "serve profiles at /debug/pprof/")
	f.StringVar(&o.TLSMinVersion, "tls-min-version", "", "oldest version of TLS: "+strings.Join(cliflag.TLSPossibleVersions(), ", ")+" (default VersionTLS12)")
	f.StringSliceVar(&o.TLSCipherSuites, "tls-cipher-suites", nil, "cipher suites for TLS 1.2, by their names in Go (default: Go's)")
	f.StringArrayVar(&o.Issuers, "service-account-issuer", []string{authn.DefaultIssuer}, "issuer of service accounts' tokens; given again, tokens of the others are still good")
	f.StringVar(&o.JWKSURI, "service-account-jwks-uri", "", "where others find the keys of those tokens (default: here)")
	f.DurationVar(&o.MaxTokenLife, "service-account-max-token-expiration", 0, "how long those tokens live at most; 0 is as long as is asked for")
}

// validate refuses what makes no sense, in upstream's words where it refuses the same.
func (o *ServingOptions) validate() error {
	var errs []error
	refuse := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(o.RequestTimeout <= 0, "--request-timeout must be positive")
	refuse(o.MinRequestSeconds <= 0, "--min-request-timeout must be positive")
	refuse(o.EventTTL <= 0, "--event-ttl must be positive")
	refuse(o.MaxTokenLife != 0 && (o.MaxTokenLife < time.Hour || o.MaxTokenLife > (1<<32)*time.Second),
		"the service-account-max-token-expiration must be between 1 hour and 2^32 seconds")
	for i, issuer := range o.Issuers {
		_, err := url.Parse(issuer)
		refuse(issuer == "", "service-account-issuer cannot be an empty string")
		refuse(strings.Contains(issuer, ":") && err != nil, "service-account-issuer %q contained a ':' but was not a valid URL: %w", issuer, err)
		refuse(slices.Contains(o.Issuers[:i], issuer), "service-account-issuer %q is already specified", issuer)
	}
	if at, err := url.Parse(o.JWKSURI); err != nil || o.JWKSURI != "" && at.Scheme != "https" {
		errs = append(errs, fmt.Errorf("service-account-jwks-uri requires https scheme, parsed as: %v", o.JWKSURI))
	}
	if err := o.secure(&tls.Config{}); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// secure narrows what a server's TLS takes.
func (o *ServingOptions) secure(cfg *tls.Config) error {
	if o.TLSMinVersion != "" {
		v, err := cliflag.TLSVersion(o.TLSMinVersion)
		if err != nil {
			return err
		}
		cfg.MinVersion = v
	}
	if len(o.TLSCipherSuites) == 0 {
		return nil
	}
	suites, err := cliflag.TLSCipherSuites(o.TLSCipherSuites)
	cfg.CipherSuites = suites
	return err
}
