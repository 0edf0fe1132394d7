package images

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// Policy tells whether a pod has to show that it may use an image that is there; pulled tells whether the kubelet has pulled it.
type Policy func(image string, pulled bool) bool

// NewPolicy returns the policy of a name. allowed are images, or beginnings of their names that end in /*, that any pod may use.
func NewPolicy(name kubeletconfig.ImagePullCredentialsVerificationPolicy, allowed []string) (Policy, error) {
	if len(allowed) > 0 && name != kubeletconfig.NeverVerifyAllowlistedImages {
		return nil, fmt.Errorf("can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not %q", kubeletconfig.NeverVerifyAllowlistedImages)
	}
	switch name {
	case kubeletconfig.NeverVerify:
		return func(string, bool) bool { return false }, nil
	case kubeletconfig.NeverVerifyPreloadedImages:
		return func(_ string, pulled bool) bool { return pulled }, nil
	case kubeletconfig.AlwaysVerify:
		return func(string, bool) bool { return true }, nil
	case kubeletconfig.NeverVerifyAllowlistedImages:
		return allowlist(allowed)
	}
	return nil, fmt.Errorf("option %q specified for imagePullCredentialsVerificationPolicy. Valid options are %q, %q, %q or %q", name,
		kubeletconfig.NeverVerify, kubeletconfig.NeverVerifyPreloadedImages, kubeletconfig.NeverVerifyAllowlistedImages, kubeletconfig.AlwaysVerify)
}

func allowlist(patterns []string) (Policy, error) {
	var beginnings []string
	names := map[string]bool{}
	for _, pattern := range patterns {
		start, wild := strings.CutSuffix(pattern, "/*")
		named, err := reference.ParseNormalizedNamed(start)
		switch {
		case pattern == "" || pattern != strings.TrimSpace(pattern) || strings.Contains(start, "*"):
			return nil, fmt.Errorf("invalid image pattern in `preloadedImagesVerificationAllowlist`: %q: write an image, or the beginning of one before /*", pattern)
		case err != nil && !wild:
			return nil, fmt.Errorf("invalid image pattern in `preloadedImagesVerificationAllowlist`: %q: %w", pattern, err)
		case wild:
			beginnings = append(beginnings, start+"/")
		case !reference.IsNameOnly(named):
			return nil, fmt.Errorf("invalid image pattern in `preloadedImagesVerificationAllowlist`: %q: leave its tag and digest out", pattern)
		default:
			names[named.Name()] = true
		}
	}
	return func(image string, _ bool) bool {
		name := image
		if n, err := bare(image); err == nil {
			name = n
		}
		for _, b := range beginnings {
			if strings.HasPrefix(name, b) {
				return false
			}
		}
		return !names[name]
	}, nil
}
