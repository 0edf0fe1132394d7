package admissionregistration

import (
	"reflect"

	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
)

// tolerance is what an update of webhooks may leave wrong, because the stored object has it already: it was written before that was refused.
type tolerance struct {
	conditions bool // match conditions have not changed
	effects    bool // side effects that were allowed once
	versions   bool // no version of reviews that is sent
	names      bool // equal names
	labels     bool // values in selectors that no label can have
}

func toleranceOf(hooks, old []hook) tolerance {
	may := tolerance{conditions: len(hooks) == len(old)}
	seen := map[string]bool{}
	for i := range old {
		h := &old[i]
		may.conditions = may.conditions && reflect.DeepEqual(h.conditions, hooks[i].conditions)
		may.effects = may.effects || h.effects == nil || *h.effects != harmless[0] && *h.effects != harmless[1]
		may.versions = may.versions || len(h.versions) > 0 && !h.speaks()
		may.names = may.names || seen[h.name]
		seen[h.name] = true
		strict := metav1validation.LabelSelectorValidationOptions{}
		may.labels = may.labels || len(metav1validation.ValidateLabelSelector(h.namespace, strict, nil))+len(metav1validation.ValidateLabelSelector(h.object, strict, nil)) > 0
	}
	return may
}
