package bootstrapsigner

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func token(id string, change func(map[string][]byte)) *corev1.Secret {
	data := map[string][]byte{"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte("true")}
	change(data)
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken, Data: data}
}

func TestEveryTokenThatMaySignDoes(t *testing.T) {
	now := time.Now()
	same := func(map[string][]byte) {}
	data := map[string]string{"kubeconfig": "content", "jws-kubeconfig-oldone": "x", "other": "kept"}
	got, until, err := signed(data, []*corev1.Secret{
		token("aaaaaa", same),
		token("bbbbbb", func(d map[string][]byte) { d["usage-bootstrap-signing"] = nil }),
		token("cccccc", func(d map[string][]byte) { d["expiration"] = []byte(now.Add(-time.Hour).Format(time.RFC3339)) }),
		token("dddddd", func(d map[string][]byte) { d["expiration"] = []byte(now.Add(time.Hour).Format(time.RFC3339)) }),
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got["other"] != "kept" || got["jws-kubeconfig-dddddd"] == "" || got["jws-kubeconfig-oldone"] != "" {
		t.Errorf("got %v", got)
	}
	if d := until.Sub(now); d < 59*time.Minute || d > time.Hour {
		t.Errorf("until %v", until)
	}
	parts := strings.Split(got["jws-kubeconfig-aaaaaa"], ".")
	mac := hmac.New(sha256.New, []byte("0123456789abcdef"))
	mac.Write([]byte(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte("content"))))
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	if parts[1] != "" || parts[2] != base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) || string(header) != `{"alg":"HS256","kid":"aaaaaa"}` {
		t.Errorf("got %v, header %s", parts, header)
	}
}
