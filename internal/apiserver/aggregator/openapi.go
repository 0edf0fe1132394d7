package aggregator

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"
	registrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	openapiaggregator "k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/apiserver/openapi"
)

// documents are how a remote server describes one group and version. They are kept until it describes it otherwise.
type documents struct {
	hash string // the server's own, of version 3, or that of version 2
	v3   []byte // nil if the server has none
	v2   []byte // what concerns the group and version; nil if the server has none
}

// Documents are the remote servers' descriptions of what they serve, to be served with this server's.
func (m *Manager) Documents() []openapi.Addition {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []openapi.Addition
	for gv, r := range m.remotes {
		if d := r.documents; d != nil {
			out = append(out, openapi.Addition{Path: pathOf(gv), Hash: d.hash, V3: d.version3, V2: d.version2})
		}
	}
	return out
}

func pathOf(gv schema.GroupVersion) string { return "apis/" + gv.Group + "/" + gv.Version }

func (d *documents) version2() (*spec.Swagger, error) {
	if d.v2 == nil {
		return nil, nil
	}
	out := &spec.Swagger{}
	return out, out.UnmarshalJSON(d.v2)
}

// version3 is made of version 2 where the server has nothing newer.
func (d *documents) version3() (*spec3.OpenAPI, error) {
	if d.v3 == nil {
		old, err := d.version2()
		if err != nil {
			return nil, err
		}
		return openapiconv.ConvertV2ToV3(old), nil
	}
	out := &spec3.OpenAPI{}
	return out, out.UnmarshalJSON(d.v3)
}

// describe returns a remote server's documents, or, if it doesn't give them, those that it gave last.
func (m *Manager) describe(ctx context.Context, s *registrationv1.APIService, r *remote) *documents {
	out, err := describe(ctx, r.Remote, schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}, r.documents)
	if err != nil {
		m.cfg.Logger.Debug("an APIService isn't documented", "name", s.Name, "error", err)
		return r.documents
	}
	return out
}

// describe asks a remote server for its documents; known are those that it had, which are returned if nothing has changed.
func describe(ctx context.Context, r apiserver.Remote, gv schema.GroupVersion, known *documents) (*documents, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	address := "https://" + r.Host
	out := &documents{}
	if raw, err := get(ctx, r, address+"/openapi/v3"); err == nil {
		var index struct {
			Paths map[string]struct {
				ServerRelativeURL string `json:"serverRelativeURL"`
			} `json:"paths"`
		}
		if err := json.Unmarshal(raw, &index); err != nil {
			return nil, fmt.Errorf("read the index of %s/openapi/v3: %w", address, err)
		}
		if out.hash = index.Paths[pathOf(gv)].ServerRelativeURL; out.hash != "" {
			if known != nil && known.hash == out.hash {
				return known, nil
			}
			if out.v3, err = get(ctx, r, address+out.hash); err != nil {
				return nil, err
			}
		}
	}
	raw, err := get(ctx, r, address+"/openapi/v2")
	if err != nil && out.v3 == nil {
		return nil, err
	}
	if err != nil {
		return out, nil
	}
	if out.hash == "" {
		out.hash = fmt.Sprintf("%X", sha512.Sum512(raw))
	}
	var all spec.Swagger
	if err := all.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("read %s/openapi/v2: %w", address, err)
	}
	out.v2, err = openapiaggregator.FilterSpecByPathsWithoutSideEffects(&all, []string{"/" + pathOf(gv) + "/"}).MarshalJSON()
	return out, err
}

// get reads one document as the aggregator.
func get(ctx context.Context, r apiserver.Remote, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-Remote-User", "system:aggregator")
	request.Header.Set("X-Remote-Group", "system:masters")
	request.Header.Set("Accept", "application/json")
	answer, err := r.Transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", address, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", address, answer.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxDiscovery))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", address, err)
	}
	return raw, nil
}
