package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"

	"clipper.dev/clipper/internal/admission/plugins"
)

// AdmissionOptions choose and configure the admission plugins. The flags are upstream's.
type AdmissionOptions struct {
	Enable, Disable []string
	ConfigFile      string

	NotReadySeconds, UnreachableSeconds int64
}

func (o *AdmissionOptions) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.Enable, "enable-admission-plugins", nil, "admission plugins to use beside those that are on by default")
	f.StringSliceVar(&o.Disable, "disable-admission-plugins", nil, "admission plugins not to use although they are on by default")
	f.Var((*pathValue)(&o.ConfigFile), "admission-control-config-file", "file with an AdmissionConfiguration, for PodSecurity and EventRateLimit")
	f.Int64Var(&o.NotReadySeconds, "default-not-ready-toleration-seconds", 300, "how long pods that don't say stay on a node that is not ready")
	f.Int64Var(&o.UnreachableSeconds, "default-unreachable-toleration-seconds", 300, "how long pods that don't say stay on a node that cannot be reached")
}

// plugins are the options of the admission plugins that follow.
func (o *AdmissionOptions) plugins() (plugins.Options, error) {
	out := plugins.Options{Enable: o.Enable, Disable: o.Disable, NotReadySeconds: &o.NotReadySeconds, UnreachableSeconds: &o.UnreachableSeconds}
	if o.ConfigFile != "" {
		var err error
		if out.Configurations, err = admissionConfigurations(o.ConfigFile); err != nil {
			return out, fmt.Errorf("--admission-control-config-file: %w", err)
		}
	}
	return out, out.Validate()
}

// admissionConfigurations reads an AdmissionConfiguration of any version, with the files that it names.
func admissionConfigurations(file string) (map[string][]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	o, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	cfg, ok := o.(*apiserver.AdmissionConfiguration)
	if !ok {
		return nil, fmt.Errorf("%s: expected AdmissionConfiguration, got %T", file, o)
	}
	out := map[string][]byte{}
	for _, p := range cfg.Plugins {
		if p.Configuration != nil {
			out[p.Name] = p.Configuration.Raw
			continue
		}
		if p.Path == "" {
			continue
		}
		at := p.Path
		if !filepath.IsAbs(at) {
			at = filepath.Join(filepath.Dir(file), at)
		}
		if out[p.Name], err = os.ReadFile(at); err != nil {
			return nil, fmt.Errorf("read the configuration of %s: %w", p.Name, err)
		}
	}
	return out, nil
}
