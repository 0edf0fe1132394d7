package encryption

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/apis/apiserver"
	kmsv2 "k8s.io/kms/apis/v2"

	"clipper.dev/clipper/internal/store"
)

const (
	// A plugin is asked for its status this often, more often while it is not well.
	probeEvery       = time.Minute
	probeEveryFailed = 10 * time.Second
	// How long one answer serves those who ask for the plugin's health.
	healthyFor = 20 * time.Second
	unwellFor  = 3 * time.Second
	// writeFor is how long after its last confirmation a data key may encrypt: a plugin that rotated its key must be heeded.
	writeFor = 3 * time.Minute
	// What is known of old data keys, so that reading does not ask the plugin each time.
	keysFor       = 24 * time.Hour
	maxCachedKeys = 4096
	// maxAnswerBytes is gRPC's own bound, written down.
	maxAnswerBytes = 4 << 20
)

// environment is what surrounds all plugins.
type environment struct {
	reload  bool
	log     *slog.Logger
	metrics *Metrics // nil measures nothing
	now     func() time.Time
	// readable is called when values that a plugin could not decrypt may be read again.
	readable func(context.Context) error
}

// plugin encrypts by way of a KMS plugin (v2): values with data keys, and those keys' source with the plugin's key.
type plugin struct {
	name    string
	timeout time.Duration
	conn    *grpc.ClientConn
	service kmsv2.KeyManagementServiceClient
	env     environment
	current atomic.Pointer[dataKey]
	keys    *cache.LRUExpireCache // an envelope's cacheKey → store.Transformer

	probing sync.Mutex
	probed  time.Time // when the last probe ended, and how
	result  error

	refused atomic.Bool // some value could not be read because the plugin failed
}

var _ store.Transformer = (*plugin)(nil)

// dataKey is what values are encrypted with now.
type dataKey struct {
	transformer store.Transformer
	head        envelope // without data
	cacheKey    string
	until       time.Time
}

func newPlugin(cfg *apiserver.KMSConfiguration, env environment) (*plugin, error) {
	if env.now == nil {
		env.now = time.Now
	}
	if env.log == nil {
		env.log = slog.New(slog.DiscardHandler)
	}
	path, ok := strings.CutPrefix(cfg.Endpoint, "unix://")
	if !ok {
		return nil, fmt.Errorf("unsupported scheme of the endpoint %q, must be \"unix\"", cfg.Endpoint)
	}
	target := "unix://" + path
	if name, abstract := strings.CutPrefix(path, "/@"); abstract {
		target = "unix-abstract:" + name
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxAnswerBytes)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Endpoint, err)
	}
	return &plugin{
		name: cfg.Name, timeout: cfg.Timeout.Duration, conn: conn, service: kmsv2.NewKeyManagementServiceClient(conn), env: env,
		keys: cache.NewLRUExpireCacheWithClock(maxCachedKeys, clock(env.now)),
	}, nil
}

// clock is a cache's.
type clock func() time.Time

func (c clock) Now() time.Time { return c() }

// FromStorage implements store.Transformer.
func (p *plugin) FromStorage(ctx context.Context, key string, data []byte) ([]byte, bool, error) {
	e, err := unmarshalEnvelope(data)
	if err != nil {
		return nil, false, err
	}
	current := p.current.Load()
	if current == nil {
		p.refused.Store(true)
		return nil, false, fmt.Errorf("got unexpected nil transformer: KMS provider %s has not answered yet", p.name)
	}
	t, err := p.keyOf(ctx, e)
	if err != nil {
		return nil, false, err
	}
	p.env.metrics.usedKey("from_storage", p.name, e.keyID)
	out, stale, err := t.FromStorage(ctx, key, e.data)
	return out, stale || e.keyID != current.head.keyID || e.kind != current.head.kind, err
}

// keyOf finds an envelope's data key, of which the plugin may have to decrypt the source.
func (p *plugin) keyOf(ctx context.Context, e *envelope) (store.Transformer, error) {
	name := e.cacheKey()
	if t, ok := p.keys.Get(name); ok {
		return t.(store.Transformer), nil
	}
	var resp *kmsv2.DecryptResponse
	err := p.call(ctx, "Decrypt", func(ctx context.Context) (err error) {
		resp, err = p.service.Decrypt(ctx, &kmsv2.DecryptRequest{Ciphertext: e.source, Uid: uuid.NewString(), KeyId: e.keyID, Annotations: e.annotations})
		return err
	})
	if err != nil {
		p.refused.Store(true)
		return nil, fmt.Errorf("failed to decrypt DEK, error: %w", err)
	}
	read := newGCM
	if e.kind == sourceIsSeed {
		read = newSeed
	}
	t, err := read(resp.Plaintext)
	if err != nil {
		return nil, err
	}
	p.keys.Add(name, t, keysFor)
	p.env.metrics.missedKey(p.name, len(p.keys.Keys()))
	return t, nil
}

// ToStorage implements store.Transformer.
func (p *plugin) ToStorage(ctx context.Context, key string, data []byte) ([]byte, error) {
	k := p.current.Load()
	if k == nil {
		return nil, fmt.Errorf("got unexpected nil transformer: KMS provider %s has not answered yet", p.name)
	}
	if now := p.env.now(); now.After(k.until) {
		return nil, fmt.Errorf("encryptedDEKSource with keyID hash %q expired at %s (current time is %s)", hash(k.head.keyID), k.until.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	sealed, err := k.transformer.ToStorage(ctx, key, data)
	if err != nil {
		return nil, err
	}
	p.keys.Add(k.cacheKey, k.transformer, keysFor)
	p.env.metrics.usedKey("to_storage", p.name, k.head.keyID)
	e := k.head
	e.data = sealed
	return e.marshal()
}

// call makes one request of the plugin.
func (p *plugin) call(ctx context.Context, method string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	began := time.Now()
	err := do(ctx)
	p.env.metrics.called(p.name, method, err, time.Since(began))
	return err
}

// healthy is how the last probe went, if that is not long ago, or how another goes.
func (p *plugin) healthy(ctx context.Context) error {
	p.probing.Lock()
	probed, result := p.probed, p.result
	p.probing.Unlock()
	fresh := healthyFor
	if result != nil {
		fresh = unwellFor
	}
	if !probed.IsZero() && p.env.now().Before(probed.Add(fresh)) {
		return result
	}
	return p.probe(ctx)
}

// probe asks the plugin how it is, and makes a new data key when the plugin's key is another.
func (p *plugin) probe(ctx context.Context) error {
	p.probing.Lock()
	defer p.probing.Unlock()
	err := p.ask(ctx)
	p.probed, p.result = p.env.now(), err
	return err
}

func (p *plugin) ask(ctx context.Context) error {
	var status *kmsv2.StatusResponse
	err := p.call(ctx, "Status", func(ctx context.Context) (err error) {
		status, err = p.service.Status(ctx, &kmsv2.StatusRequest{})
		return err
	})
	if err != nil {
		return fmt.Errorf("failed to perform status section of the healthz check for KMS Provider %s, error: %w", p.name, err)
	}
	var errs []error
	if status.Healthz != "ok" {
		errs = append(errs, fmt.Errorf("got unexpected healthz status: %s", status.Healthz))
	}
	if status.Version != "v2" && status.Version != "v2beta1" {
		errs = append(errs, fmt.Errorf("expected KMSv2 API version v2, got %s", status.Version))
	}
	if err := validateKeyID(status.KeyId); err != nil {
		p.env.metrics.invalidKey(p.name, status.KeyId)
		errs = append(errs, fmt.Errorf("got invalid KMSv2 KeyID hash %q: %w", hash(status.KeyId), err))
	} else {
		p.env.metrics.reportedKey(p.name, status.KeyId)
		errs = append(errs, p.follow(ctx, status.KeyId))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("kmsv2 Provider %s is not healthy, error: %w", p.name, err)
	}
	return nil
}

// follow lets the data key live on if the plugin's key is still the one that encrypted it, or else makes another.
func (p *plugin) follow(ctx context.Context, keyID string) error {
	until := p.env.now().Add(writeFor)
	if k := p.current.Load(); k != nil && k.head.keyID == keyID {
		renewed := *k
		renewed.until = until
		p.current.Store(&renewed)
		return nil
	}
	k, err := p.newKey(ctx)
	if err != nil {
		return fmt.Errorf("failed to rotate DEK: %w", err)
	}
	k.until = until
	p.current.Store(k)
	if k.head.keyID != keyID {
		return fmt.Errorf("failed to rotate DEK: the plugin's status names the key with hash %q, but it encrypts with that of hash %q", hash(keyID), hash(k.head.keyID))
	}
	p.env.log.Info("a KMS plugin's key encrypts a new data key", "provider", p.name, "keyIDHash", hash(keyID))
	return nil
}

func (p *plugin) newKey(ctx context.Context) (_ *dataKey, err error) {
	defer func(began time.Time) { p.env.metrics.madeKey(began, err) }(time.Now())
	source := make([]byte, seedBytes)
	if _, err := rand.Read(source); err != nil {
		return nil, fmt.Errorf("make a seed: %w", err)
	}
	t, err := newSeed(source)
	if err != nil {
		return nil, err
	}
	var resp *kmsv2.EncryptResponse
	err = p.call(ctx, "Encrypt", func(ctx context.Context) (err error) {
		resp, err = p.service.Encrypt(ctx, &kmsv2.EncryptRequest{Plaintext: source, Uid: uuid.NewString()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("failed to encrypt DEK, error: %w", err)
	}
	k := &dataKey{transformer: t, head: envelope{keyID: resp.KeyId, source: resp.Ciphertext, annotations: resp.Annotations, kind: sourceIsSeed}}
	check := k.head
	check.data = []byte{0}
	if err := check.validate(); err != nil {
		return nil, err
	}
	k.cacheKey = k.head.cacheKey()
	return k, nil
}

// run keeps the plugin's status known until ctx ends, and has values read again that were refused while it failed.
func (p *plugin) run(ctx context.Context) {
	var again time.Time
	pause := probeEvery
	for {
		next := probeEvery
		err := p.probe(ctx)
		if err != nil && ctx.Err() == nil {
			p.env.log.Error("a KMS plugin is not well", "provider", p.name, "err", err)
			next = probeEveryFailed
		}
		if err == nil && !p.env.now().Before(again) {
			if !p.refused.Swap(false) {
				pause = probeEvery
			} else if p.env.readable != nil {
				// What it refuses for good is tried ever more rarely.
				again, pause = p.env.now().Add(pause), min(2*pause, time.Hour)
				if err := p.env.readable(ctx); err != nil && ctx.Err() == nil {
					p.env.log.Error("values that could not be decrypted cannot be read again", "provider", p.name, "err", err)
				}
			}
		}
		wait := time.NewTimer(next)
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}
