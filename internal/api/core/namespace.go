package core

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// Namespaces is the row of core/v1 Namespace.
var Namespaces = api.Register(&api.Resource{
	Name:         "namespaces",
	Singular:     "namespace",
	Kind:         "Namespace",
	ShortNames:   []string{"ns"},
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[corev1.Namespace, corev1.NamespaceList]("v1")},
	Prefix:       "namespaces",
	Verbs:        []string{"create", "delete", "get", "list", "patch", "update", "watch"},

	Default:                  api.On(defaultNamespace),
	PrepareCreate:            api.On(prepareNamespace),
	PrepareUpdate:            api.OnUpdate(func(n, o *corev1.Namespace) { n.Spec.Finalizers, n.Status = o.Spec.Finalizers, o.Status }),
	Validate:                 api.Check(validateNamespace),
	ValidateUpdate:           api.CheckSame(validateNamespace),
	Canonicalize:             api.On(labelNamespace),
	NameRule:                 apivalidation.ValidateNamespaceName,
	AllowUnconditionalUpdate: true,
	ReadyToDelete:            func(o api.Object) bool { return len(o.(*corev1.Namespace).Spec.Finalizers) == 0 },
	MarkCollects:             true,
	MarkDeleting:             api.On(func(ns *corev1.Namespace) { ns.Status.Phase = corev1.NamespaceTerminating }),
	ReturnsDeleted:           true,

	Fields: map[string]func(api.Object) string{
		"status.phase": api.Select(func(ns *corev1.Namespace) string { return string(ns.Status.Phase) }),
		"name":         api.Select(func(ns *corev1.Namespace) string { return ns.Name }),
	},
	Columns: []metav1.TableColumnDefinition{api.NameColumn, api.Column("Status", "string", "The status of the namespace"), api.AgeColumn},
	Cells: api.Print(func(ns *corev1.Namespace, p api.PrintOptions) []any {
		return []any{ns.Name, string(ns.Status.Phase), api.Age(ns.CreationTimestamp, p)}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *corev1.Namespace) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckSame(validateNamespaceStatus),
	},
	Subresources: []api.Subresource{{
		Name:           "finalize",
		Verbs:          []string{"update"},
		New:            func() runtime.Object { return &corev1.Namespace{} },
		PrepareUpdate:  api.OnUpdate(func(n, o *corev1.Namespace) { n.Status = o.Status }),
		ValidateUpdate: api.CheckSame(validateFinalize),
		ResetFields:    []string{"status"},
	}},
})

func defaultNamespace(ns *corev1.Namespace) {
	setString(&ns.Status.Phase, corev1.NamespaceActive)
	if ns.Name != "" {
		labelNamespace(ns)
	}
}

// labelNamespace keeps the label by which selectors find a namespace by its name.
func labelNamespace(ns *corev1.Namespace) {
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func prepareNamespace(ns *corev1.Namespace) {
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

func validateNamespace(ns *corev1.Namespace) (e check.Errors) {
	for _, f := range ns.Spec.Finalizers {
		e.Add(validateFinalizer(string(f), field.NewPath("spec", "finalizers"))...)
	}
	return e
}

func validateFinalizer(name string, path *field.Path) (e check.Errors) {
	e.Add(apivalidation.ValidateFinalizerName(name, path)...)
	standard := []string{string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents}
	if !strings.Contains(name, "/") && !slices.Contains(standard, name) {
		e.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified")
	}
	return e
}

func validateNamespaceStatus(ns *corev1.Namespace) (e check.Errors) {
	path := field.NewPath("status", "Phase")
	switch {
	case ns.DeletionTimestamp.IsZero() && ns.Status.Phase != corev1.NamespaceActive:
		e.Invalid(path, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")
	case !ns.DeletionTimestamp.IsZero() && ns.Status.Phase != corev1.NamespaceTerminating:
		e.Invalid(path, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
	}
	return e
}

func validateFinalize(ns *corev1.Namespace) (e check.Errors) {
	for i, f := range ns.Spec.Finalizers {
		e.Add(validateFinalizer(string(f), field.NewPath("spec", "finalizers").Index(i))...)
	}
	return e
}
