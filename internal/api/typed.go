package api

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Serve describes a served version whose Go types are T and L:
//
//	api.Serve[corev1.Pod, corev1.PodList]("v1")
func Serve[T, L any, PT interface {
	*T
	Object
}, PL interface {
	*L
	runtime.Object
}](version string) Version {
	return Version{
		Version: version,
		New:     func() Object { return PT(new(T)) },
		NewList: func() runtime.Object { return PL(new(L)) },
	}
}

// On lets a row's Default or PrepareCreate be written over the kind's own type.
func On[T Object](f func(T)) func(Object) { return func(o Object) { f(o.(T)) } }

// OnUpdate lets a row's PrepareUpdate be written over the kind's own type.
func OnUpdate[T Object](f func(new, old T)) func(new, old Object) {
	return func(n, o Object) { f(n.(T), o.(T)) }
}

// Check lets a row's Validate be written over the kind's own type.
func Check[T Object, E ~[]*field.Error](f func(T) E) func(Object) field.ErrorList {
	return func(o Object) field.ErrorList { return field.ErrorList(f(o.(T))) }
}

// CheckUpdate lets a row's ValidateUpdate be written over the kind's own type.
func CheckUpdate[T Object, E ~[]*field.Error](f func(new, old T) E) func(new, old Object) field.ErrorList {
	return func(n, o Object) field.ErrorList { return field.ErrorList(f(n.(T), o.(T))) }
}

// CheckSame is for kinds whose updates are validated exactly as creations.
func CheckSame[T Object, E ~[]*field.Error](f func(T) E) func(new, old Object) field.ErrorList {
	return func(n, _ Object) field.ErrorList { return field.ErrorList(f(n.(T))) }
}

// Warn lets a row's Warnings be written over the kind's own type; old is the zero value of T on create.
func Warn[T Object](f func(new, old T) []string) func(new, old Object) []string {
	return func(n, o Object) []string {
		old, _ := o.(T)
		return f(n.(T), old)
	}
}

// Select lets a selectable field be written over the kind's own type.
func Select[T Object](f func(T) string) func(Object) string {
	return func(o Object) string { return f(o.(T)) }
}

// Print lets a row's Cells be written over the kind's own type.
func Print[T Object](f func(T, PrintOptions) []any) func(Object, PrintOptions) []any {
	return func(o Object, p PrintOptions) []any { return f(o.(T), p) }
}

// NameColumn and AgeColumn are the columns that nearly every kind prints.
var (
	NameColumn = metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}
	AgeColumn  = Column("Age", "string", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"])
)

// Column is a printed column that is always shown.
func Column(name, typ, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: typ, Description: description}
}

// WideColumn is a printed column that is shown on demand (kubectl get -o wide).
func WideColumn(name, typ, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: typ, Description: description, Priority: 1}
}

// CreatedColumn is printed in place of the age by kinds for which upstream has no columns of their own; Created is its cell.
var CreatedColumn = Column("Created At", "date", AgeColumn.Description)

// Created is a moment of creation as CreatedColumn shows it.
func Created(at metav1.Time) string { return at.UTC().Format(time.RFC3339) }
