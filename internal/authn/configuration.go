package authn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"

	"clipper.dev/clipper/internal/authn/oidc"
)

// ParseConfiguration reads an AuthenticationConfiguration, in YAML or JSON, of any version.
func ParseConfiguration(data []byte) (*apiserver.AuthenticationConfiguration, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	o, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, fmt.Errorf("read an authentication configuration: %w", err)
	}
	cfg, ok := o.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("expected AuthenticationConfiguration, got %T", o)
	}
	return cfg, nil
}

// AnonymousOf is what a configuration says of nobody; ok is false if it says nothing.
func AnonymousOf(cfg *apiserver.AuthenticationConfiguration) (out AnonymousConfig, ok bool) {
	if cfg.Anonymous == nil {
		return AnonymousConfig{}, false
	}
	out.Disabled = !cfg.Anonymous.Enabled
	for _, c := range cfg.Anonymous.Conditions {
		out.Paths = append(out.Paths, c.Path)
	}
	return out, true
}

const (
	// healthyWithin is how long the issuers of a new configuration may take to be reached before it is given up.
	healthyWithin = time.Minute
	// outgoing is how long the former issuers still finish what they are doing.
	outgoing = time.Minute
)

// Issuers believes the tokens of the OIDC issuers that a configuration lists, which may be replaced.
type Issuers struct {
	opts     oidc.Options
	compiler authenticationcel.Compiler
	ctx      context.Context // of all that runs for issuers
	log      *slog.Logger
	current  atomic.Pointer[generation]
	running  sync.WaitGroup
}

// generation is the issuers of one configuration.
type generation struct {
	issuers []*oidc.Issuer
	cancel  context.CancelFunc
}

var _ authenticator.Token = (*Issuers)(nil)

// NewIssuers starts the issuers of a configuration. They run until ctx ends; Wait then waits for them.
func NewIssuers(ctx context.Context, cfg *apiserver.AuthenticationConfiguration, o oidc.Options) (*Issuers, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Compiler = authenticationcel.NewDefaultCompiler()
	s := &Issuers{opts: o, compiler: o.Compiler, ctx: ctx, log: o.Logger}
	g, err := s.start(cfg)
	if err != nil {
		return nil, err
	}
	s.current.Store(g)
	return s, nil
}

// start makes a generation and lets it reach its issuers.
func (s *Issuers) start(cfg *apiserver.AuthenticationConfiguration) (*generation, error) {
	if errs := validation.ValidateAuthenticationConfiguration(s.compiler, cfg, s.opts.DisallowedIssuers); len(errs) > 0 {
		return nil, fmt.Errorf("the authentication configuration is invalid: %w", errs.ToAggregate())
	}
	ctx, cancel := context.WithCancel(s.ctx)
	g := &generation{cancel: cancel}
	for _, j := range cfg.JWT {
		i, err := oidc.New(ctx, j, s.opts)
		if err != nil {
			cancel()
			return nil, err
		}
		g.issuers = append(g.issuers, i)
	}
	for _, i := range g.issuers {
		s.running.Go(func() { i.Run(ctx) })
	}
	return g, nil
}

// Replace puts a new configuration in force once all its issuers were reached; else the former stays.
func (s *Issuers) Replace(ctx context.Context, cfg *apiserver.AuthenticationConfiguration) error {
	next, err := s.start(cfg)
	if err != nil {
		return err
	}
	if err := next.reached(ctx); err != nil {
		next.cancel()
		return fmt.Errorf("reach the issuers of the new authentication configuration: %w", err)
	}
	former := s.current.Swap(next)
	s.running.Go(func() {
		end := time.NewTimer(outgoing)
		defer end.Stop()
		select {
		case <-end.C:
		case <-s.ctx.Done():
		}
		former.cancel()
	})
	return nil
}

func (g *generation) reached(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	for _, i := range g.issuers {
		select {
		case <-i.Ready():
		case <-ctx.Done():
			return errors.Join(i.Health(), ctx.Err())
		}
	}
	return nil
}

// Wait waits for everything that runs for issuers, after the end of the context that they were made with.
func (s *Issuers) Wait() { s.running.Wait() }

// AuthenticateToken implements authenticator.Token.
func (s *Issuers) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	var errs []error
	for _, i := range s.current.Load().issuers {
		resp, ok, err := i.AuthenticateToken(ctx, token)
		if ok {
			return resp, true, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return nil, false, utilerrors.NewAggregate(errs)
}
