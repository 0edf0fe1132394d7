package serviceaccounttoken

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestATokenSecretIsFilledOnce(t *testing.T) {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "u"}}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "t", Annotations: map[string]string{corev1.ServiceAccountNameKey: "sa"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}
	signs := 0
	sign := func() (string, error) { signs++; return "token", nil }
	got, err := filled(s, sa, []byte("ca"), sign)
	if err != nil || string(got.Data["token"]) != "token" || string(got.Data["ca.crt"]) != "ca" || string(got.Data["namespace"]) != "ns" || got.Annotations[corev1.ServiceAccountUIDKey] != "u" {
		t.Fatalf("got %v, %v", got, err)
	}
	if again, err := filled(got, sa, []byte("ca"), sign); again != nil || err != nil || signs != 1 {
		t.Errorf("a filled secret was filled again: %v %v", again, err)
	}
	if renewed, _ := filled(got, sa, []byte("new"), sign); renewed == nil || string(renewed.Data["ca.crt"]) != "new" || signs != 1 {
		t.Errorf("a new authority was not published: %v", renewed)
	}
}

func TestASecretBelongsToOneAccount(t *testing.T) {
	s := &corev1.Secret{Type: corev1.SecretTypeServiceAccountToken, ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.ServiceAccountNameKey: "sa", corev1.ServiceAccountUIDKey: "u"}}}
	if !belongs(s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "sa", UID: "u"}}) {
		t.Error("not its own")
	}
	if belongs(s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "sa", UID: "later"}}) || belongs(s, nil) {
		t.Error("another's")
	}
}
