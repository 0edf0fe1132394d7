package serviceaccounttoken

import (
	"bytes"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// accountOf returns the account that a token Secret names.
func accountOf(s *corev1.Secret) (name string, uid types.UID) {
	if s.Type != corev1.SecretTypeServiceAccountToken {
		return "", ""
	}
	return s.Annotations[corev1.ServiceAccountNameKey], types.UID(s.Annotations[corev1.ServiceAccountUIDKey])
}

// belongs tells whether a Secret is of this account, and not of an earlier one by the same name.
func belongs(s *corev1.Secret, sa *corev1.ServiceAccount) bool {
	name, uid := accountOf(s)
	return sa != nil && name == sa.Name && (uid == "" || uid == sa.UID)
}

// filled returns the Secret with all that it shall hold, or nil if it holds that already. sign makes the token if there is none.
func filled(s *corev1.Secret, sa *corev1.ServiceAccount, ca []byte, sign func() (string, error)) (*corev1.Secret, error) {
	complete := len(s.Data[corev1.ServiceAccountTokenKey]) > 0 && len(s.Data[corev1.ServiceAccountNamespaceKey]) > 0 &&
		bytes.Equal(s.Data[corev1.ServiceAccountRootCAKey], ca) && s.Annotations[corev1.ServiceAccountUIDKey] == string(sa.UID)
	if complete {
		return nil, nil
	}
	out := s.DeepCopy()
	if out.Data == nil {
		out.Data = map[string][]byte{}
	}
	out.Annotations[corev1.ServiceAccountUIDKey] = string(sa.UID)
	out.Data[corev1.ServiceAccountRootCAKey] = ca
	if len(out.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		out.Data[corev1.ServiceAccountNamespaceKey] = []byte(s.Namespace)
	}
	if len(out.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := sign()
		if err != nil {
			return nil, err
		}
		out.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	return out, nil
}
