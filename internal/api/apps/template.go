package apps

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// What the workloads of this group share: a template for pods, the selector that finds them, and counts of them.

// setDefault sets a pointer that is nil.
func setDefault[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// validateSelector checks a workload's selector. It returns nil where the template can't be held against it.
func validateSelector(e *check.Errors, s *metav1.LabelSelector, kind string, path *field.Path) labels.Selector {
	if s == nil {
		e.Required(path, "")
	} else {
		e.Add(metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, path)...)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			e.Invalid(path, s, "empty selector is invalid for "+kind)
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		e.Invalid(path, s, "invalid label selector")
		return nil
	}
	return selector
}

// count is a field of a status that counts something.
type count struct {
	name  string
	value int64
}

func nonNegative(e *check.Errors, path *field.Path, counts ...count) {
	for _, c := range counts {
		e.NonNegative(path.Child(c.name), c.value)
	}
}

// notMoreThan requires each count to be at most a limit.
func notMoreThan(e *check.Errors, path *field.Path, limit int32, text string, counts ...count) {
	for _, c := range counts {
		if c.value > int64(limit) {
			e.Invalid(path.Child(c.name), int32(c.value), text)
		}
	}
}

// decremented tells whether a counter that only grows went back.
func decremented(new, old *int32) bool {
	if old == nil {
		return false
	}
	return new == nil || *new < *old
}

func orZero(p *int32) int32 {
	if p == nil {
		return 0
	}
	return *p
}

// changed compares for generation where a workload's annotations go into what it makes.
func changed[T any](specNew, specOld T, new, old *metav1.ObjectMeta, annotations bool) bool {
	return !equality.Semantic.DeepEqual(specNew, specOld) || annotations && !equality.Semantic.DeepEqual(new.Annotations, old.Annotations)
}

// nameWarnings recommend a name that is a DNS label, since pods' hostnames are made of it.
func nameWarnings(name string) []string {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
	}
	return nil
}

var templatePath = field.NewPath("spec", "template")

// containerColumns are printed on demand for every workload.
func containerColumns(selector string) []metav1.TableColumnDefinition {
	out := []metav1.TableColumnDefinition{
		api.WideColumn("Containers", "string", "Names of each container in the template."),
		api.WideColumn("Images", "string", "Images referenced by each container in the template."),
	}
	if selector != "" {
		out = append(out, api.WideColumn("Selector", "string", selector))
	}
	return out
}

// containerCells are the names and images of a template's containers.
func containerCells(containers []corev1.Container) (names, images string) {
	var n, i []string
	for _, c := range containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// printSelector is the selector in its textual form.
func printSelector(s *metav1.LabelSelector) string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "<invalid>"
	}
	return selector.String()
}

// selectorText is what a scale says of the selector.
func selectorText(s *metav1.LabelSelector) (string, error) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "", err
	}
	return selector.String(), nil
}
