package images

import (
	"log/slog"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	private = "registry.example.com/team/app:v1"
	ref     = "sha256:abc"
)

func openRecords(t *testing.T, dir string) *Records {
	t.Helper()
	r, err := OpenRecords(dir, func(_ string, pulled bool) bool { return pulled }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhoMayUseAnImageThatIsThere(t *testing.T) {
	mine := pullSecret{UID: "1", Namespace: "a", Name: "s", CredentialHash: "h"}
	changed, copied, other := mine, pullSecret{UID: "2", Namespace: "b", Name: "s", CredentialHash: "h"}, pullSecret{UID: "3", Namespace: "c", Name: "s", CredentialHash: "x"}
	changed.CredentialHash = "new"
	for name, test := range map[string]struct {
		with   *pulledWith
		pulled bool
		offers []pullSecret
		want   bool
	}{
		"anybody_what_the_kubelet_has_not_pulled": {nil, false, nil, true},
		"anybody_what_needed_no_credentials":      {&pulledWith{NodePodsAccessible: true}, true, nil, true},
		"nobody_without_the_secret":               {&pulledWith{KubernetesSecrets: []pullSecret{mine}}, true, nil, false},
		"nobody_with_another_secret":              {&pulledWith{KubernetesSecrets: []pullSecret{mine}}, true, []pullSecret{other}, false},
		"who_has_the_secret":                      {&pulledWith{KubernetesSecrets: []pullSecret{mine}}, true, []pullSecret{other, mine}, true},
		"who_has_the_same_credentials":            {&pulledWith{KubernetesSecrets: []pullSecret{mine}}, true, []pullSecret{copied}, true},
		"who_has_the_secret_in_its_new_form":      {&pulledWith{KubernetesSecrets: []pullSecret{mine}}, true, []pullSecret{changed}, true},
		"nobody_what_was_pulled_with_unknown":     {nil, true, []pullSecret{mine}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := openRecords(t, dir)
			if test.pulled {
				if err := r.begin(private); err != nil {
					t.Fatal(err)
				}
				if r.check(private, ref, []pullSecret{mine}).usable() {
					t.Error("it's usable while it is pulled")
				}
				r.done(private, ref, test.with)
			}
			for range 2 { // what was met while reading changes nothing
				if got := openRecords(t, dir).check(private, ref, test.offers).usable(); got != test.want {
					t.Errorf("usable: %v, want %v", got, test.want)
				}
			}
		})
	}
}

func TestAPullThatWasCutOffIsNotTrusted(t *testing.T) {
	dir := t.TempDir()
	if err := openRecords(t, dir).begin(private); err != nil {
		t.Fatal(err)
	}
	r := openRecords(t, dir)
	if r.check(private, ref, nil).usable() {
		t.Error("usable before its end is known")
	}
	there := func() ([]*runtimeapi.Image, error) {
		return []*runtimeapi.Image{{Id: ref, RepoTags: []string{private}}}, nil
	}
	if err := r.recover(there); err != nil {
		t.Fatal(err)
	}
	if r.check(private, ref, nil).usable() {
		t.Error("usable although nobody knows what it was pulled with")
	}
	if err := r.prune(nil, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if !r.check(private, ref, nil).usable() {
		t.Error("what was removed is still recorded")
	}
}

func TestAPullThatFailedLeavesNothing(t *testing.T) {
	r := openRecords(t, t.TempDir())
	if err := r.begin(private); err != nil {
		t.Fatal(err)
	}
	r.failed(private)
	if !r.check(private, ref, nil).usable() {
		t.Error("a failed pull is recorded")
	}
}
