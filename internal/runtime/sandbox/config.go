package sandbox

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/records"
)

// Config is a sandbox's configuration: what lists show of it, and all of it by Full.
type Config struct {
	Metadata    *runtimeapi.PodSandboxMetadata
	Labels      map[string]string
	Annotations map[string]string
	records.Message[runtimeapi.PodSandboxConfig, *runtimeapi.PodSandboxConfig]
}

// NewConfig keeps a configuration.
func NewConfig(config *runtimeapi.PodSandboxConfig) (Config, error) {
	message, err := records.Encode(config)
	return show(config, message), err
}

// decodeConfig is NewConfig for one that is encoded.
func decodeConfig(encoded []byte) (Config, error) {
	config, message, err := records.Decode[runtimeapi.PodSandboxConfig](encoded)
	return show(config, message), err
}

func show(c *runtimeapi.PodSandboxConfig, m records.Message[runtimeapi.PodSandboxConfig, *runtimeapi.PodSandboxConfig]) Config {
	return Config{c.GetMetadata(), c.GetLabels(), c.GetAnnotations(), m}
}
