package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// projected shows several sources in one directory, in memory. Service account tokens are in it, so it asks to be refreshed in time.
type projected struct{}

func (projected) Name() string            { return "kubernetes.io/projected" }
func (projected) Supports(s *Source) bool { return s.Volume.Projected != nil }
func (projected) InMemory() bool          { return true }

// tokenMode keeps a token to its owner; the volume's group gets to read it as well if there is one.
const tokenMode = 0o600

func (projected) Mount(ctx context.Context, r *Request) (Mounted, error) {
	mode, err := modeOf(r.Volume.Projected.DefaultMode)
	if err != nil {
		return Mounted{}, err
	}
	files := map[string]file{}
	var refresh time.Time
	var errs []error
	for i := range r.Volume.Projected.Sources {
		part, at, err := project(ctx, r, &r.Volume.Projected.Sources[i], mode)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		maps.Copy(files, part)
		if !at.IsZero() && (refresh.IsZero() || at.Before(refresh)) {
			refresh = at
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: r.Dir, ReadOnly: true, Managed: true, Refresh: refresh}, write(r, files)
}

func project(ctx context.Context, r *Request, p *corev1.VolumeProjection, mode int32) (files map[string]file, refresh time.Time, err error) {
	switch {
	case p.Secret != nil:
		optional := isTrue(p.Secret.Optional)
		s, err := r.Host.Secret(ctx, r.Pod.Namespace, p.Secret.Name)
		if s, err = orEmpty(s, err, optional); err != nil {
			return nil, refresh, err
		}
		files, err = secretFiles(s, p.Secret.Items, mode, optional)
		return files, refresh, err
	case p.ConfigMap != nil:
		optional := isTrue(p.ConfigMap.Optional)
		cm, err := r.Host.ConfigMap(ctx, r.Pod.Namespace, p.ConfigMap.Name)
		if cm, err = orEmpty(cm, err, optional); err != nil {
			return nil, refresh, err
		}
		files, err = configMapFiles(cm, p.ConfigMap.Items, mode, optional)
		return files, refresh, err
	case p.DownwardAPI != nil:
		files, err = downwardFiles(r, p.DownwardAPI.Items, mode)
		return files, refresh, err
	case p.ServiceAccountToken != nil:
		token, refresh, err := r.Host.Token(ctx, r.Pod, p.ServiceAccountToken)
		if err != nil {
			return nil, refresh, err
		}
		f := file{data: []byte(token), mode: mode, uid: r.FSUser}
		if r.FSUser != nil || r.FSGroup != nil {
			f.mode = tokenMode
		}
		return map[string]file{p.ServiceAccountToken.Path: f}, refresh, nil
	case p.ClusterTrustBundle != nil:
		data, err := r.Host.TrustBundle(ctx, p.ClusterTrustBundle)
		if err != nil {
			return nil, refresh, err
		}
		return map[string]file{p.ClusterTrustBundle.Path: {data: data, mode: mode}}, refresh, nil
	}
	return nil, refresh, fmt.Errorf("a projected source of volume %q is of no known kind", r.Volume.Name)
}

func (projected) Unmount(context.Context, string) error { return nil }
