package kubelet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"slices"

	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
)

var trustBundles = client.Kind[*certificatesv1beta1.ClusterTrustBundle]{GVR: certificatesv1beta1.SchemeGroupVersion.WithResource("clustertrustbundles")}

// TrustBundle returns the certificates of one bundle, or of all that a signer and labels choose, each once and in an order that tells nothing.
func (h *volumeHost) TrustBundle(ctx context.Context, t *corev1.ClusterTrustBundleProjection) ([]byte, error) {
	optional := t.Optional != nil && *t.Optional
	if t.Name != nil {
		bundle, err := trustBundles.Get(ctx, h.cfg.Client, "", *t.Name)
		if apierrors.IsNotFound(err) && optional {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return normalize([]string{bundle.Spec.TrustBundle}), nil
	}
	selector := labels.Nothing()
	if t.LabelSelector != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(t.LabelSelector); err != nil {
			return nil, fmt.Errorf("select trust bundles: %w", err)
		}
	}
	list, err := trustBundles.List(ctx, h.cfg.Client, "", selector)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, b := range list {
		if t.SignerName != nil && b.Spec.SignerName == *t.SignerName {
			texts = append(texts, b.Spec.TrustBundle)
		}
	}
	if len(texts) == 0 && !optional {
		return nil, fmt.Errorf("combination of signerName and labelSelector matched zero ClusterTrustBundles")
	}
	return normalize(texts), nil
}

func normalize(texts []string) []byte {
	seen := map[[sha256.Size]byte]bool{}
	var certs []*pem.Block
	for _, text := range texts {
		for rest := []byte(text); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if sum := sha256.Sum256(block.Bytes); !seen[sum] {
				seen[sum] = true
				certs = append(certs, &pem.Block{Type: block.Type, Bytes: block.Bytes})
			}
		}
	}
	slices.SortFunc(certs, func(a, b *pem.Block) int { return bytes.Compare(a.Bytes, b.Bytes) })
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(c)...)
	}
	return out
}
