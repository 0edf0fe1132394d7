package claim

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestClaiming(t *testing.T) {
	ours, others := &metav1.OwnerReference{UID: "me"}, &metav1.OwnerReference{UID: "other"}
	for name, test := range map[string]struct {
		ref                              *metav1.OwnerReference
		ownerDeleting, matches, deleting bool
		want                             action
	}{
		"keeps its own that match":                     {ref: ours, matches: true, want: keep},
		"keeps its own that match while being deleted": {ref: ours, matches: true, ownerDeleting: true, want: keep},
		"releases its own that no longer match":        {ref: ours, want: release},
		"releases nothing while it's being deleted":    {ref: ours, ownerDeleting: true, want: ignore},
		"leaves what others own":                       {ref: others, matches: true, want: ignore},
		"adopts orphans that match":                    {matches: true, want: adopt},
		"adopts no orphans that are being deleted":     {matches: true, deleting: true, want: ignore},
		"adopts nothing while it's being deleted":      {matches: true, ownerDeleting: true, want: ignore},
		"leaves orphans that don't match":              {want: ignore},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decide(test.ref, "me", test.ownerDeleting, test.matches, test.deleting); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
