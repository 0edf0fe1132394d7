package security

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/pki"
)

func meta(ns, name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }

func pod(ns, name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(ns, name), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x"}}}}
}

func says(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()
	c.namespace("team")
	_, err := c.admin.RbacV1().RoleBindings("team").Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta("team", "edit"),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}}}, metav1.CreateOptions{})
	must(t, err)
	alice, eve := c.as(c.cert("alice")), c.as(c.cert("eve"))

	t.Run("nobody sees the version and nothing else", func(t *testing.T) {
		_, err := c.as().Discovery().ServerVersion()
		must(t, err)
		_, err = c.as().CoreV1().Pods("team").List(ctx, metav1.ListOptions{})
		says(t, err, `pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "team"`)
	})
	t.Run("a binding holds in its namespace", func(t *testing.T) {
		eventually(t, "the binding takes effect", func() bool {
			_, err := alice.CoreV1().ConfigMaps("team").List(ctx, metav1.ListOptions{})
			return err == nil
		})
		_, err := alice.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		says(t, err, `configmaps is forbidden: User "alice" cannot list resource "configmaps" in API group "" in the namespace "default"`)
		_, err = eve.CoreV1().Secrets("team").Get(ctx, "x", metav1.GetOptions{})
		says(t, err, `secrets "x" is forbidden: User "eve" cannot get resource "secrets" in API group "" in the namespace "team"`)
	})
	t.Run("a bad certificate is refused", func(t *testing.T) {
		other, err := pki.Open(t.TempDir(), pki.Options{})
		must(t, err)
		cert, key, err := other.Pair(pki.Admin).PEM()
		must(t, err)
		_, err = c.as(func(cfg *rest.Config) { cfg.CertData, cfg.KeyData = cert, key }).CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if !apierrors.IsUnauthorized(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("reviews tell it", func(t *testing.T) {
		sar, err := alice.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "team", Verb: "create", Resource: "pods"}}}, metav1.CreateOptions{})
		must(t, err)
		if !sar.Status.Allowed || sar.Status.Reason != `RBAC: allowed by RoleBinding "edit/team" of ClusterRole "edit" to User "alice"` {
			t.Errorf("got %+v", sar.Status)
		}
		rules, err := alice.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "team"}}, metav1.CreateOptions{})
		must(t, err)
		if len(rules.Status.ResourceRules) < 10 || len(rules.Status.NonResourceRules) == 0 || rules.Status.Incomplete {
			t.Errorf("got %+v", rules.Status)
		}
		self, err := alice.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		must(t, err)
		if u := self.Status.UserInfo; u.Username != "alice" || !slices.Contains(u.Groups, "system:authenticated") {
			t.Errorf("got %+v", u)
		}
		_, err = c.admin.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{}, metav1.CreateOptions{})
		says(t, err, "exactly one of nonResourceAttributes or resourceAttributes must be specified")
	})
	t.Run("impersonation takes permission", func(t *testing.T) {
		as := func(who func(*rest.Config)) error {
			_, err := c.as(who, func(cfg *rest.Config) {
				cfg.Impersonate = rest.ImpersonationConfig{UserName: "alice", Groups: []string{"g"}}
			}).CoreV1().ConfigMaps("team").List(ctx, metav1.ListOptions{})
			return err
		}
		must(t, as(c.cert("admin", "system:masters")))
		says(t, as(c.cert("eve")), `configmaps is forbidden: User "eve" cannot impersonate-on:user-info:list resource "configmaps" in API group "" in the namespace "team"`)
	})
	t.Run("nobody grants what they lack", func(t *testing.T) {
		_, err := c.admin.RbacV1().RoleBindings("team").Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta("team", "admin"),
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "bob"}}}, metav1.CreateOptions{})
		must(t, err)
		bob := c.as(c.cert("bob"))
		eventually(t, "the binding takes effect", func() bool {
			_, err := bob.RbacV1().Roles("team").List(ctx, metav1.ListOptions{})
			return err == nil
		})
		role := &rbacv1.Role{ObjectMeta: meta("team", "r"), Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}
		_, err = bob.RbacV1().Roles("team").Create(ctx, role, metav1.CreateOptions{})
		must(t, err)
		role.Name, role.Rules[0].APIGroups = "s", []string{"x.example"}
		_, err = bob.RbacV1().Roles("team").Create(ctx, role, metav1.CreateOptions{})
		says(t, err, `roles.rbac.authorization.k8s.io "s" is forbidden: user "bob" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:`)
	})
	t.Run("namespaces are guarded", func(t *testing.T) {
		says(t, c.admin.CoreV1().Namespaces().Delete(ctx, "kube-system", metav1.DeleteOptions{}), `namespaces "kube-system" is forbidden: this namespace may not be deleted`)
		_, err := c.admin.CoreV1().ConfigMaps("none").Create(ctx, &corev1.ConfigMap{ObjectMeta: meta("none", "x")}, metav1.CreateOptions{})
		says(t, err, `namespaces "none" not found`)
	})
}

func TestServiceAccounts(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()
	c.namespace("team")
	created, err := c.admin.CoreV1().Pods("team").Create(ctx, pod("team", "p"), metav1.CreateOptions{})
	must(t, err)
	if created.Spec.ServiceAccountName != "default" || len(created.Spec.Volumes) != 1 || !strings.HasPrefix(created.Spec.Volumes[0].Name, "kube-api-access-") ||
		len(created.Spec.Tolerations) != 2 || created.Spec.Priority == nil {
		t.Fatalf("got %+v", created.Spec)
	}
	eventually(t, "the authority is published", func() bool {
		cm, err := c.admin.CoreV1().ConfigMaps("team").Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err == nil && cm.Data["ca.crt"] == string(c.keys.Authority().PEM())
	})
	tr, err := c.admin.CoreV1().ServiceAccounts("team").CreateToken(ctx, "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: ptr.To[int64](3600), BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "p", UID: created.UID}}}, metav1.CreateOptions{})
	must(t, err)
	sa := c.as(token(tr.Status.Token))
	self, err := sa.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	must(t, err)
	if u := self.Status.UserInfo; u.Username != "system:serviceaccount:team:default" || u.Extra["authentication.kubernetes.io/pod-name"][0] != "p" {
		t.Errorf("got %+v", u)
	}
	review, err := c.admin.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: tr.Status.Token}}, metav1.CreateOptions{})
	must(t, err)
	if !review.Status.Authenticated || len(review.Status.Audiences) != 1 {
		t.Errorf("got %+v", review.Status)
	}
	must(t, c.admin.CoreV1().Pods("team").Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}))
	_, err = sa.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if !apierrors.IsUnauthorized(err) {
		t.Errorf("the token outlived its pod: %v", err)
	}

	_, err = c.admin.CoreV1().Secrets("team").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "legacy", Annotations: map[string]string{"kubernetes.io/service-account.name": "default"}}, Type: corev1.SecretTypeServiceAccountToken}, metav1.CreateOptions{})
	must(t, err)
	var legacy *corev1.Secret
	eventually(t, "the legacy token is made", func() bool {
		legacy, err = c.admin.CoreV1().Secrets("team").Get(ctx, "legacy", metav1.GetOptions{})
		return err == nil && len(legacy.Data["token"]) > 0
	})
	_, err = c.as(token(string(legacy.Data["token"]))).AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	must(t, err)
}

func TestAMachineJoins(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()
	bootstrapToken, err := pki.NewBootstrapToken()
	must(t, err)
	_, err = c.admin.CoreV1().Secrets("kube-system").Create(ctx, bootstrapToken.SecretObject(pki.BootstrapTokenOptions{}), metav1.CreateOptions{})
	must(t, err)
	address := strings.TrimPrefix(c.url, "https://")
	ca, err := pki.FetchCA(ctx, address, c.keys.JoinToken(bootstrapToken).Pin)
	must(t, err)
	if string(ca) != string(c.keys.Authority().PEM()) {
		t.Error("another authority was fetched")
	}
	joining := c.as(token(bootstrapToken.String()))
	key, err := pki.NewKey()
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}}, key)
	must(t, err)
	csr, err := joining.CertificatesV1().CertificateSigningRequests().Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}, Username: "forged",
		},
	}, metav1.CreateOptions{})
	must(t, err)
	if csr.Spec.Username != "system:bootstrap:"+bootstrapToken.ID {
		t.Errorf("asked as %q", csr.Spec.Username)
	}
	eventually(t, "the certificate is issued", func() bool {
		csr, err = joining.CertificatesV1().CertificateSigningRequests().Get(ctx, csr.Name, metav1.GetOptions{})
		return err == nil && len(csr.Status.Certificate) > 0
	})
	keyPEM, err := pki.KeyPEM(key)
	must(t, err)
	node := c.as(func(cfg *rest.Config) { cfg.CertData, cfg.KeyData = csr.Status.Certificate, keyPEM })
	_, err = node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	must(t, err)
	_, err = node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{})
	says(t, err, `nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"`)
	_, err = node.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{})
	says(t, err, "No Object name found")

	c.namespace("team")
	p := pod("team", "p")
	p.Spec.NodeName = "n1"
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "wanted"}}}}
	for _, name := range []string{"wanted", "other"} {
		_, err = c.admin.CoreV1().Secrets("team").Create(ctx, &corev1.Secret{ObjectMeta: meta("team", name)}, metav1.CreateOptions{})
		must(t, err)
	}
	_, err = c.admin.CoreV1().Pods("team").Create(ctx, p, metav1.CreateOptions{})
	must(t, err)
	_, err = node.CoreV1().Secrets("team").Get(ctx, "wanted", metav1.GetOptions{})
	must(t, err)
	_, err = node.CoreV1().Secrets("team").Get(ctx, "other", metav1.GetOptions{})
	says(t, err, "no relationship found between node 'n1' and this object")
}

func TestQuotaHoldsUnderConcurrentCreations(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()
	c.namespace("team")
	_, err := c.admin.CoreV1().ResourceQuotas("team").Create(ctx, &corev1.ResourceQuota{ObjectMeta: meta("team", "q"), Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("10")}}}, metav1.CreateOptions{})
	must(t, err)
	used := func() int64 {
		q, err := c.admin.CoreV1().ResourceQuotas("team").Get(ctx, "q", metav1.GetOptions{})
		must(t, err)
		n, ok := q.Status.Used["pods"]
		if !ok {
			return -1
		}
		return n.Value()
	}
	eventually(t, "the quota is counted", func() bool { return used() == 0 })
	var wg sync.WaitGroup
	var admitted atomic.Int32
	for i := range 40 {
		wg.Go(func() {
			_, err := c.admin.CoreV1().Pods("team").Create(ctx, pod("team", fmt.Sprintf("p%d", i)), metav1.CreateOptions{})
			switch {
			case err == nil:
				admitted.Add(1)
			case !strings.Contains(err.Error(), "exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10"):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 10 || used() != 10 {
		t.Errorf("admitted %d, used %d", admitted.Load(), used())
	}
	pods, err := c.admin.CoreV1().Pods("team").List(ctx, metav1.ListOptions{})
	must(t, err)
	for _, p := range pods.Items[:4] {
		must(t, c.admin.CoreV1().Pods("team").Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}))
	}
	eventually(t, "what was deleted is given back", func() bool { return used() == 6 })
	_, err = c.admin.CoreV1().Pods("team").Create(ctx, pod("team", "again"), metav1.CreateOptions{})
	must(t, err)
}

func TestPodSecurityIsEnforcedByLabel(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()
	_, err := c.admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}, metav1.CreateOptions{})
	must(t, err)
	_, err = c.admin.CoreV1().Pods("strict").Create(ctx, pod("strict", "p"), metav1.CreateOptions{})
	says(t, err, `pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)`)
}

func TestHealthIsOpenToAll(t *testing.T) {
	c := newCluster(t)
	transport, err := rest.TransportFor(c.config())
	must(t, err)
	for path, code := range map[string]int{"/livez": 200, "/readyz": 200, "/version": 200, "/api": 403, "/metrics": 403} {
		resp, err := (&http.Client{Transport: transport}).Get(c.url + path)
		must(t, err)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}
