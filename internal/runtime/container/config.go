package container

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/records"
)

// Config is a container's configuration: what lists show of it, and all of it by Full.
type Config struct {
	Metadata    *runtimeapi.ContainerMetadata
	Image       *runtimeapi.ImageSpec
	Labels      map[string]string
	Annotations map[string]string
	records.Message[runtimeapi.ContainerConfig, *runtimeapi.ContainerConfig]
}

// NewConfig keeps a configuration.
func NewConfig(config *runtimeapi.ContainerConfig) (Config, error) {
	message, err := records.Encode(config)
	return show(config, message), err
}

// decodeConfig is NewConfig for one that is encoded.
func decodeConfig(encoded []byte) (Config, error) {
	config, message, err := records.Decode[runtimeapi.ContainerConfig](encoded)
	return show(config, message), err
}

func show(c *runtimeapi.ContainerConfig, m records.Message[runtimeapi.ContainerConfig, *runtimeapi.ContainerConfig]) Config {
	return Config{c.GetMetadata(), c.GetImage(), c.GetLabels(), c.GetAnnotations(), m}
}
