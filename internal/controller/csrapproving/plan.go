package csrapproving

import (
	"crypto/x509"
	"net"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/pki"
)

// A grant is a permission by which a client certificate is approved.
type grant struct {
	subresource string
	message     string
}

// open tells whether a request waits for a decision.
func open(r *certificatesv1.CertificateSigningRequest) bool {
	return len(r.Status.Certificate) == 0 && !slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == certificatesv1.CertificateApproved || c.Type == certificatesv1.CertificateDenied
	})
}

// clientGrants returns the permissions any of which approves a request for a client certificate; none if it isn't one.
func clientGrants(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) []grant {
	if r.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName || pki.CheckKubeletClient(x, r.Spec.Usages) != nil {
		return nil
	}
	grants := []grant{{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."}}
	if r.Spec.Username == x.Subject.CommonName {
		grants = append([]grant{{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."}}, grants...)
	}
	return grants
}

const nodeUser = "system:node:"

// servingNode returns the node that asks for a serving certificate of its own.
func servingNode(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) (node string, ok bool) {
	if r.Spec.SignerName != certificatesv1.KubeletServingSignerName || pki.CheckKubeletServing(x, r.Spec.Usages) != nil {
		return "", false
	}
	if r.Spec.Username != x.Subject.CommonName || !slices.Contains(r.Spec.Groups, "system:nodes") {
		return "", false
	}
	return strings.CutPrefix(r.Spec.Username, nodeUser)
}

// reportsAll tells whether a node reports every name and address that a certificate would be for.
func reportsAll(node *corev1.Node, x *x509.CertificateRequest) bool {
	names, ips := []string{node.Name}, []net.IP{}
	for _, a := range node.Status.Addresses {
		if ip := net.ParseIP(a.Address); ip != nil {
			ips = append(ips, ip)
			continue
		}
		names = append(names, a.Address)
	}
	for _, n := range x.DNSNames {
		if !slices.Contains(names, n) {
			return false
		}
	}
	for _, ip := range x.IPAddresses {
		if !slices.ContainsFunc(ips, ip.Equal) {
			return false
		}
	}
	return true
}

// approved returns the request with approval.
func approved(r *certificatesv1.CertificateSigningRequest, message string) *certificatesv1.CertificateSigningRequest {
	out := r.DeepCopy()
	out.Status.Conditions = append(out.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type:    certificatesv1.CertificateApproved,
		Status:  corev1.ConditionTrue,
		Reason:  "AutoApproved",
		Message: message,
	})
	return out
}
