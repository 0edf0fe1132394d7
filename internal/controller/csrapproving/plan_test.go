package csrapproving

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var node = pkix.Name{CommonName: "system:node:n", Organization: []string{"system:nodes"}}

func TestClientGrants(t *testing.T) {
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	for _, c := range []struct {
		name, user string
		signer     string
		x          *x509.CertificateRequest
		want       []string
	}{
		{"a joining machine", "system:bootstrap:abcdef", certificatesv1.KubeAPIServerClientKubeletSignerName, &x509.CertificateRequest{Subject: node}, []string{"nodeclient"}},
		{"a node for itself", "system:node:n", certificatesv1.KubeAPIServerClientKubeletSignerName, &x509.CertificateRequest{Subject: node}, []string{"selfnodeclient", "nodeclient"}},
		{"a master", "x", certificatesv1.KubeAPIServerClientKubeletSignerName, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x", Organization: []string{"system:masters"}}}, nil},
		{"another signer", "x", certificatesv1.KubeAPIServerClientSignerName, &x509.CertificateRequest{Subject: node}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: c.signer, Usages: usages, Username: c.user}}
			got := clientGrants(r, c.x)
			if len(got) != len(c.want) {
				t.Fatalf("got %v", got)
			}
			for i := range got {
				if got[i].subresource != c.want[i] {
					t.Errorf("got %v", got)
				}
			}
		})
	}
}

func TestAServingCertificateIsForTheNodesOwnAddresses(t *testing.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeHostName, Address: "n.local"},
	}}}
	for _, c := range []struct {
		name string
		x    x509.CertificateRequest
		want bool
	}{
		{"its name and address", x509.CertificateRequest{DNSNames: []string{"n", "n.local"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}, true},
		{"another address", x509.CertificateRequest{DNSNames: []string{"n"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 2)}}, false},
		{"the API server's name", x509.CertificateRequest{DNSNames: []string{"kubernetes.default.svc"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := reportsAll(n, &c.x); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
	r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: certificatesv1.KubeletServingSignerName, Usages: usages, Username: "system:node:n", Groups: []string{"system:nodes"}}}
	x := &x509.CertificateRequest{Subject: node, DNSNames: []string{"n"}}
	if name, ok := servingNode(r, x); !ok || name != "n" {
		t.Errorf("got %q, %v", name, ok)
	}
	r.Spec.Username = "system:node:other"
	if _, ok := servingNode(r, x); ok {
		t.Error("a node asked for another's certificate")
	}
}
