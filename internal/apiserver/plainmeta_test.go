package apiserver

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// texts makes texts that are valid now and then.
type texts struct{ *rand.Rand }

func (t texts) pick(all ...string) string { return all[t.IntN(len(all))] }

func (t texts) key() string {
	parts := []string{"app", "App_1", "a.b-c", "example.com/name", "Example.com/x", "a..b/x", "-a/x", "a/", "/a", "a/b/c", "a b", "", ".a", "a-", "é", "k8s.io/9"}
	switch t.IntN(4) {
	case 0:
		return strings.Repeat("a", 60+t.IntN(6))
	case 1:
		return strings.Repeat("a.", 120+t.IntN(10)) + "b/x"
	}
	return t.pick(parts...)
}

// rare is true now and then, so that most of what is made is valid but for a thing or two.
func (t texts) rare() bool { return t.IntN(12) == 0 }

// odd is a usual text, or now and then one of others.
func (t texts) odd(usual string, others ...string) string {
	if t.rare() {
		return t.pick(others...)
	}
	return usual
}

func (t texts) meta() *metav1.ObjectMeta {
	m := &metav1.ObjectMeta{
		Name: t.odd("a", "a.b", "A", "", "a%"), Namespace: t.odd("default", "", "a.b", "-a", "A", strings.Repeat("n", 63+t.IntN(2))),
		GenerateName: t.odd("", "a-", "%"), UID: types.UID(t.odd("u", "v")), ResourceVersion: t.odd("1", ""),
	}
	if t.rare() {
		m.Generation = int64(t.IntN(4) - 1)
	}
	if t.rare() {
		m.CreationTimestamp = metav1.NewTime(time.Unix(int64(t.IntN(2)), 0))
	}
	if t.rare() {
		m.DeletionTimestamp = &metav1.Time{Time: time.Unix(9, 0)}
	}
	if t.rare() {
		m.DeletionGracePeriodSeconds = new(int64)
	}
	if t.IntN(2) == 0 {
		m.Labels = map[string]string{t.key(): strings.TrimPrefix(t.key(), "example.com/")}
	}
	if t.IntN(2) == 0 {
		m.Annotations = map[string]string{t.key(): "any thing"}
	}
	if t.IntN(100) == 0 {
		m.Annotations = map[string]string{"large": strings.Repeat("x", apivalidation.TotalAnnotationSizeLimitB-t.IntN(10))}
	}
	for range t.IntN(3) {
		yes := t.IntN(2) == 0
		m.OwnerReferences = append(m.OwnerReferences, metav1.OwnerReference{
			APIVersion: t.odd("apps/v1", "v1", "a/b/c", "", "apps/", "/v1", "/"), Kind: t.odd("ReplicaSet", "Event", ""),
			Name: t.odd("n", ""), UID: types.UID(t.odd("u", "")), Controller: &yes,
		})
	}
	if t.rare() {
		m.Finalizers = []string{t.key()}
	}
	for range t.IntN(3) {
		m.ManagedFields = append(m.ManagedFields, metav1.ManagedFieldsEntry{
			Operation: metav1.ManagedFieldsOperationType(t.odd("Update", "Apply", "")), FieldsType: t.odd("FieldsV1", "V2"),
			Manager: t.odd("kubectl", "a b", "tab\t", strings.Repeat("m", 127+t.IntN(3))), Subresource: t.odd("", "status", strings.Repeat("s", 256+t.IntN(2))),
		})
	}
	return m
}

func TestMetadataThatIsPlainlyValidIsSoToTheLibrary(t *testing.T) {
	random := texts{rand.New(rand.NewPCG(7, 9))}
	plain, changed := 0, 0
	for range 20000 {
		m, old, namespaced := random.meta(), random.meta(), random.IntN(4) > 0
		if plainMeta(m, namespaced) && plainNames(m, apivalidation.NameIsDNSSubdomain) {
			plain++
			if errs := apivalidation.ValidateObjectMetaAccessor(m, namespaced, apivalidation.NameIsDNSSubdomain, metadataPath); len(errs) > 0 {
				t.Fatalf("%+v: %v", m, errs)
			}
		}
		if plainMeta(m, namespaced) && plainUpdate(m, old) {
			changed++
			if errs := apivalidation.ValidateObjectMetaAccessorUpdate(m, old, metadataPath); len(errs) > 0 {
				t.Fatalf("%+v after %+v: %v", m, old, errs)
			}
		}
	}
	if plain < 1000 || changed < 100 {
		t.Errorf("only %d and %d were plain", plain, changed)
	}
}
