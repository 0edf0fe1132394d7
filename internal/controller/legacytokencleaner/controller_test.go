package legacytokencleaner

import (
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/legacytokentracking"
)

func day(text string) time.Time {
	t, err := time.Parse(dateForm, text)
	if err != nil {
		panic(err)
	}
	return t
}

func token(labels ...string) *corev1.Secret {
	s := &corev1.Secret{
		Type: corev1.SecretTypeServiceAccountToken,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "tok", UID: "u", CreationTimestamp: metav1.NewTime(day("2020-01-01")), Labels: map[string]string{},
			Annotations: map[string]string{corev1.ServiceAccountNameKey: "sa", corev1.ServiceAccountUIDKey: "of-sa"},
		},
	}
	for i := 0; i < len(labels); i += 2 {
		s.Labels[labels[i]] = labels[i+1]
	}
	return s
}

func account(secrets ...string) *corev1.ServiceAccount {
	a := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "of-sa"}}
	for _, s := range secrets {
		a.Secrets = append(a.Secrets, corev1.ObjectReference{Name: s})
	}
	return a
}

func TestWhatBecomesOfAToken(t *testing.T) {
	now := day("2026-01-10")
	young := token()
	young.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
	other := account("tok")
	other.UID = "later"
	for name, test := range map[string]struct {
		secret  *corev1.Secret
		account *corev1.ServiceAccount
		since   string
		want    action
	}{
		"never used, noted for long":           {token(), account("tok"), "2024-01-01", invalidate},
		"never used, noted since lately":       {token(), account("tok"), "2025-06-01", keep},
		"made lately":                          {young, account("tok"), "2024-01-01", keep},
		"used a year and a day ago":            {token(lastUsedLabel, "2025-01-09"), account("tok"), "2024-01-01", invalidate},
		"used a year ago":                      {token(lastUsedLabel, "2025-01-10"), account("tok"), "2024-01-01", keep},
		"used on a day that is none":           {token(lastUsedLabel, "then"), account("tok"), "2024-01-01", keep},
		"made by somebody":                     {token(), account("another"), "2024-01-01", keep},
		"of an account that is gone":           {token(), nil, "2024-01-01", keep},
		"of an account of the same name":       {token(), other, "2024-01-01", keep},
		"invalid since lately":                 {token(invalidSinceLabel, "2025-12-01"), account("tok"), "2024-01-01", keep},
		"invalid since long":                   {token(invalidSinceLabel, "2025-01-09"), account("tok"), "2024-01-01", remove},
		"invalid since a day that is none":     {token(invalidSinceLabel, "true"), account("tok"), "2024-01-01", invalidate},
		"invalid since long but used lately":   {token(invalidSinceLabel, "2025-01-09", lastUsedLabel, "2026-01-01"), account("tok"), "2024-01-01", keep},
		"invalid since long, used before that": {token(invalidSinceLabel, "2025-01-09", lastUsedLabel, "2024-01-01"), account("tok"), "2024-01-01", remove},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decide(test.secret, test.account, day(test.since), now, DefaultPeriod); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestAnUnusedTokenIsInvalidatedThenDeletedUnlessAPodMountsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := token()
		secret.CreationTimestamp = metav1.Now()
		c := clienttest.New(secret, account("tok"),
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod"}},
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: legacytokentracking.ConfigMapName},
				Data: map[string]string{legacytokentracking.SinceKey: time.Now().UTC().Format(dateForm)}})
		mounts := []string{"tok"}
		k, err := newController(t.Context(), controller.Env{Client: c}, Config{Period: DefaultPeriod, Mounted: func(*corev1.Pod) iter.Seq[string] { return slices.Values(mounts) }})
		if err != nil {
			t.Fatal(err)
		}
		look := func() (*corev1.Secret, error) {
			t.Helper()
			again, err := k.Reconcile(t.Context(), controller.Key{Namespace: "ns", Name: "tok"})
			if err != nil || again.After != every {
				t.Fatalf("again %v, %v", again, err)
			}
			return client.Secrets.Get(t.Context(), c, "ns", "tok")
		}
		time.Sleep(DefaultPeriod + 48*time.Hour)
		if s, err := look(); err != nil || s.Labels[invalidSinceLabel] != "" {
			t.Fatalf("one that is mounted: %v %v", s, err)
		}
		mounts = nil
		if s, err := look(); err != nil || s.Labels[invalidSinceLabel] != time.Now().UTC().Format(dateForm) {
			t.Fatalf("one that isn't used: %v %v", s, err)
		}
		if _, err := look(); err != nil {
			t.Fatalf("deleted at once: %v", err)
		}
		time.Sleep(DefaultPeriod + 24*time.Hour)
		if _, err := look(); !apierrors.IsNotFound(err) {
			t.Fatalf("still there: %v", err)
		}
	})
}
