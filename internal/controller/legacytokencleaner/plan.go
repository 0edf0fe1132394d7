package legacytokencleaner

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	lastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	invalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"
	dateForm          = time.DateOnly
)

// An action is what becomes of a token.
type action int

const (
	keep action = iota
	invalidate
	remove
)

// decide says what becomes of a token that no pod mounts. since is the first day on which all uses were noted; account is nil if
// there is none.
func decide(s *corev1.Secret, account *corev1.ServiceAccount, since, now time.Time, period time.Duration) action {
	unused := now.Add(-period)
	day := unused.Format(dateForm)
	switch {
	case s.Type != corev1.SecretTypeServiceAccountToken, s.DeletionTimestamp != nil:
		return keep
	case now.Before(since.Add(period)), !s.CreationTimestamp.Time.Before(unused):
		return keep
	case usedFrom(s, day), !madeByItself(s, account):
		return keep
	}
	invalid := s.Labels[invalidSinceLabel]
	switch _, err := time.Parse(dateForm, invalid); {
	case err != nil:
		return invalidate
	case invalid >= day:
		return keep
	}
	return remove
}

// usedFrom tells whether a token was used on a day or later. A label that is no day may say so.
func usedFrom(s *corev1.Secret, day string) bool {
	last, ok := s.Labels[lastUsedLabel]
	if !ok {
		return false
	}
	_, err := time.Parse(dateForm, last)
	return err != nil || last >= day
}

// madeByItself tells whether an account lists the Secret as its own: those that people made are listed nowhere.
func madeByItself(s *corev1.Secret, account *corev1.ServiceAccount) bool {
	if account == nil {
		return false
	}
	if uid := s.Annotations[corev1.ServiceAccountUIDKey]; uid != "" && uid != string(account.UID) {
		return false
	}
	return slices.ContainsFunc(account.Secrets, func(r corev1.ObjectReference) bool { return r.Name == s.Name })
}
