package encryption

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/reload"
	"clipper.dev/clipper/internal/store"
)

// closeAfter is how long the plugins of a configuration that was replaced stay connected, for what is under way.
const closeAfter = 10 * time.Second

// Options say how a configuration file is used.
type Options struct {
	// Path is the file. It is made, with a new key for Secrets, if it is missing and Create is set.
	Path   string
	Create bool
	// Reload follows the file as it changes.
	Reload bool
	// Readable is called when values that could not be decrypted may be read again: a plugin has recovered, or the file was replaced.
	Readable func(context.Context) error
	Metrics  *Metrics
	Reloads  *reload.Metrics
	Logger   *slog.Logger
}

// Current is the configuration that is in force, which may be replaced.
type Current struct {
	opts    Options
	env     environment
	content []byte
	config  atomic.Pointer[inForce]
	running sync.WaitGroup
}

// inForce is a configuration with what runs for it.
type inForce struct {
	*Config
	cancel context.CancelFunc
}

// Open reads the configuration file and asks its plugins once. Those that don't answer are asked again while Run runs.
func Open(ctx context.Context, o Options) (*Current, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Current{opts: o, env: environment{reload: o.Reload, log: o.Logger, metrics: o.Metrics, readable: o.Readable}}
	var err error
	if o.Create {
		c.content, err = readOrCreate(o.Path)
	} else if c.content, err = os.ReadFile(o.Path); err != nil {
		err = fmt.Errorf("error opening encryption provider configuration file %q: %w", o.Path, err)
	}
	if err != nil {
		return nil, err
	}
	cfg, err := c.env.parse(c.content)
	if err != nil {
		return nil, fmt.Errorf("error while parsing encryption provider configuration file %q: %w", o.Path, err)
	}
	if err := cfg.probe(ctx); err != nil {
		o.Logger.Error("encryption at rest is not ready", "err", err)
	}
	if o.Reloads != nil {
		o.Reloads.InForce(c.content)
	}
	c.config.Store(&inForce{Config: cfg})
	return c, nil
}

// probe asks all plugins at the same time.
func (c *Config) probe(ctx context.Context) error {
	errs := make([]error, len(c.plugins))
	var asking sync.WaitGroup
	for i, p := range c.plugins {
		asking.Go(func() { errs[i] = p.probe(ctx) })
	}
	asking.Wait()
	return errors.Join(errs...)
}

// healthy asks all plugins, unless they were asked a moment ago.
func (c *Config) healthy(ctx context.Context) error {
	var errs []error
	for _, p := range c.plugins {
		errs = append(errs, p.healthy(ctx))
	}
	return errors.Join(errs...)
}

// Run follows the plugins' keys and the file until ctx ends.
func (c *Current) Run(ctx context.Context) error {
	defer c.running.Wait()
	first := c.config.Load()
	c.start(ctx, first)
	if !c.opts.Reload {
		<-ctx.Done()
		return nil
	}
	f := reload.File{Path: c.opts.Path, Current: c.content, Metrics: c.opts.Reloads, Logger: c.opts.Logger, Apply: c.replace}
	return f.Run(ctx)
}

// start runs a configuration's plugins. They are disconnected when it has been replaced, or when ctx ends.
func (c *Current) start(ctx context.Context, cfg *inForce) {
	ctx, cfg.cancel = context.WithCancel(ctx)
	var plugins sync.WaitGroup
	for _, p := range cfg.plugins {
		plugins.Go(func() { p.run(ctx) })
	}
	c.running.Go(func() {
		plugins.Wait()
		<-ctx.Done()
		if err := cfg.close(); err != nil {
			c.opts.Logger.Warn("disconnecting a KMS plugin", "err", err)
		}
	})
}

// replace puts new content in force if all its plugins are well.
func (c *Current) replace(ctx context.Context, content []byte) error {
	cfg, err := c.env.parse(content)
	if err != nil {
		return err
	}
	if err := cfg.probe(ctx); err != nil {
		return errors.Join(err, cfg.close())
	}
	next := &inForce{Config: cfg}
	c.start(ctx, next)
	former := c.config.Swap(next)
	c.running.Go(func() {
		end := time.NewTimer(closeAfter)
		defer end.Stop()
		select {
		case <-end.C:
		case <-ctx.Done():
		}
		former.cancel()
	})
	if c.opts.Readable == nil {
		return nil
	}
	if err := c.opts.Readable(ctx); err != nil {
		c.opts.Logger.Error("values that could not be decrypted cannot be read again", "err", err)
	}
	return nil
}

// For returns what encrypts a resource, by whatever configuration is in force at the time; nil if it is stored as it is for good.
func (c *Current) For(gr schema.GroupResource) store.Transformer {
	if !c.opts.Reload {
		return c.opts.Metrics.measure(c.config.Load().For(gr), gr.String())
	}
	return c.opts.Metrics.measure(following{c, gr}, gr.String())
}

// following asks the configuration in force each time.
type following struct {
	current *Current
	gr      schema.GroupResource
}

func (f following) transformer() store.Transformer {
	if t := f.current.config.Load().For(f.gr); t != nil {
		return t
	}
	return identity{}
}

// FromStorage implements store.Transformer.
func (f following) FromStorage(ctx context.Context, key string, data []byte) ([]byte, bool, error) {
	return f.transformer().FromStorage(ctx, key, data)
}

// ToStorage implements store.Transformer.
func (f following) ToStorage(ctx context.Context, key string, data []byte) ([]byte, error) {
	return f.transformer().ToStorage(ctx, key, data)
}

// A Check says whether plugins are well.
type Check struct {
	Name string
	Do   func(context.Context) error
}

// Checks are the health checks: one for each plugin or, where the file may change, one for all.
func (c *Current) Checks() []Check {
	if c.opts.Reload {
		return []Check{{"kms-providers", func(ctx context.Context) error { return c.config.Load().healthy(ctx) }}}
	}
	var out []Check
	for i, p := range c.config.Load().plugins {
		out = append(out, Check{"kms-provider-" + strconv.Itoa(i), p.healthy})
	}
	return out
}
