package kubelet

import (
	"cmp"
	"fmt"
	"time"

	"k8s.io/client-go/util/flowcontrol"

	"clipper.dev/clipper/internal/kubelet/images"
	"clipper.dev/clipper/internal/kubelet/node"
)

// defaultRegistryBurst is how many pulls may come at once where their rate is limited.
const defaultRegistryBurst = 10

// openImages makes what pulls images and what removes them.
func (k *Kubelet) openImages() error {
	s := k.cfg.Settings
	verify, err := images.NewPolicy(s.ImagePullCredentialsVerificationPolicy, s.PreloadedImagesVerificationAllowlist)
	if err != nil {
		return fmt.Errorf("kubelet configuration: invalid configuration: %w", err)
	}
	records, err := images.OpenRecords(k.cfg.RootDir, verify, k.cfg.Logger)
	if err != nil {
		return err
	}
	k.metrics.registry.MustRegister(records)
	pulls := images.PullerConfig{Images: k.cri.Images, Events: k.events, Records: records, Metrics: k.metrics.images, Parallel: 1, Now: time.Now}
	if !*s.SerializeImagePulls {
		pulls.Parallel = int(*s.MaxParallelImagePulls)
	}
	if qps := *s.RegistryPullQPS; qps > 0 {
		pulls.Limiter = flowcontrol.NewTokenBucketPassiveRateLimiter(float32(qps), int(cmp.Or(s.RegistryBurst, defaultRegistryBurst)))
	}
	k.images = images.NewPuller(pulls)
	k.collector = images.NewCollector(images.CollectorConfig{
		Runtime: k.cri, Images: k.cri.Images, Events: k.events, About: node.Reference(k.cfg.NodeName), Records: records, Metrics: k.metrics.images,
		High: int(*s.ImageGCHighThresholdPercent), Low: int(*s.ImageGCLowThresholdPercent), MinAge: s.ImageMinimumGCAge.Duration, MaxAge: s.ImageMaximumGCAge.Duration,
		Now: time.Now, Logger: k.cfg.Logger,
	})
	return nil
}
