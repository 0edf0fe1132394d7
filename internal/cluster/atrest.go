package cluster

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/pflag"

	"clipper.dev/clipper/internal/reload"
	"clipper.dev/clipper/internal/store/encryption"
)

// AtRestOptions say how values are encrypted in etcd.
type AtRestOptions struct {
	// EncryptionConfig is the file; "" is the cluster's own, which encrypts Secrets.
	EncryptionConfig string
	// FollowEncryption puts changes of the file in force while the server runs.
	FollowEncryption bool
}

func (o *AtRestOptions) addFlags(f *pflag.FlagSet) {
	f.Var((*pathValue)(&o.EncryptionConfig), "encryption-provider-config", "file with an EncryptionConfiguration (default: one that the first start makes, which encrypts Secrets)")
	f.BoolVar(&o.FollowEncryption, "encryption-provider-config-automatic-reload", false, "follow that file as it changes")
}

// openEncryption reads how values are encrypted.
func (p *controlPlane) openEncryption(ctx context.Context) error {
	o := encryption.Options{
		Path: p.opts.EncryptionConfig, Reload: p.opts.FollowEncryption, Logger: p.log.With("component", "encryption"),
		Readable: p.store.Reread,
	}
	if o.Path == "" {
		o.Path, o.Create = filepath.Join(p.opts.Layout.PKIDir(), "encryption.yaml"), true
		if o.Reload {
			return errors.New("--encryption-provider-config-automatic-reload must be set with --encryption-provider-config")
		}
	}
	var err error
	if o.Metrics, err = encryption.NewMetrics(p.metrics, p.opts.NodeName); err != nil {
		return err
	}
	if o.Reload {
		if o.Reloads, err = reload.NewMetrics(p.metrics, "encryption_config_controller", p.opts.NodeName); err != nil {
			return err
		}
	}
	p.atRest, err = encryption.Open(ctx, o)
	return err
}
