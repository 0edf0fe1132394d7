package authn

import (
	"context"
	"crypto/subtle"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

const (
	bootstrapUserPrefix = "system:bootstrap:"
	bootstrapGroup      = "system:bootstrappers"
)

var (
	bootstrapToken = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	// bootstrapGroups are the only groups that a bootstrap token may add.
	bootstrapGroups = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// bootstrapTokens believes the tokens of Secrets of type bootstrap.kubernetes.io/token in kube-system.
type bootstrapTokens struct {
	live      *live
	audiences authenticator.Audiences
	now       func() time.Time
}

func (t *bootstrapTokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	m := bootstrapToken.FindStringSubmatch(token)
	if m == nil {
		return nil, false, nil
	}
	id, secretPart := m[1], m[2]
	secret, ok := t.live.secrets.Get(metav1.NamespaceSystem, "bootstrap-token-"+id)
	if !ok || secret.DeletionTimestamp != nil || secret.Type != corev1.SecretTypeBootstrapToken {
		return nil, false, nil
	}
	data := func(key string) string { return string(secret.Data[key]) }
	if subtle.ConstantTimeCompare([]byte(data("token-secret")), []byte(secretPart)) != 1 ||
		data("token-id") != id || expired(data("expiration"), t.now()) || data("usage-bootstrap-authentication") != "true" {
		return nil, false, nil
	}
	groups, err := tokenGroups(data("auth-extra-groups"))
	if err != nil {
		return nil, false, nil
	}
	return forAudiences(ctx, t.audiences, &user.DefaultInfo{Name: bootstrapUserPrefix + id, Groups: groups})
}

// expired tells whether a bootstrap token's time is over; one that cannot be read is.
func expired(at string, now time.Time) bool {
	if at == "" {
		return false
	}
	t, err := time.Parse(time.RFC3339, at)
	return err != nil || !now.Before(t)
}

// tokenGroups returns the groups of a bootstrap token, sorted.
func tokenGroups(extra string) ([]string, error) {
	groups := []string{bootstrapGroup}
	if extra == "" {
		return groups, nil
	}
	for _, g := range strings.Split(extra, ",") {
		if !bootstrapGroups.MatchString(g) {
			return nil, fmt.Errorf("bootstrap group %q is invalid (must match %s)", g, bootstrapGroups)
		}
		groups = append(groups, g)
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}
