package apiserver

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

var metadataPath = field.NewPath("metadata")

// placeInNamespace gives an object the request's namespace, or refuses another one. Cluster-scoped objects lose theirs.
func placeInNamespace(v *version, namespace string, obj api.Object) error {
	if !v.row.Namespaced {
		namespace = ""
	}
	switch obj.GetNamespace() {
	case namespace:
		return nil
	case "":
		obj.SetNamespace(namespace)
		return nil
	}
	if namespace == "" {
		obj.SetNamespace("")
		return nil
	}
	return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
}

// checkName refuses an object whose name is not the URL's.
func checkName(obj api.Object, name string) error {
	switch obj.GetName() {
	case name:
		return nil
	case "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", name))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), name))
}

// fillSystemFields gives a new object its identity.
func fillSystemFields(obj api.Object) {
	obj.SetCreationTimestamp(metav1.Now())
	obj.SetUID(uuid.NewUUID())
	obj.SetSelfLink("")
}

const (
	generatedSuffix  = 5
	maxGeneratedName = 63
)

// generateName appends a random suffix to a base, which is cut so that the result stays a label.
func generateName(base string) string {
	if limit := maxGeneratedName - generatedSuffix; len(base) > limit {
		base = base[:limit]
	}
	return base + rand.String(generatedSuffix)
}

// validateNewMeta checks the metadata of an object to be created.
func validateNewMeta(row *api.Resource, obj api.Object) field.ErrorList {
	rule := row.NameRule
	if rule == nil {
		rule = dnsSubdomain
	}
	if plainMeta(obj, row.Namespaced) && plainNames(obj, rule) {
		return nil
	}
	return append(apivalidation.ValidateObjectMetaAccessor(obj, row.Namespaced, rule, metadataPath), validateFinalizers(row, obj)...)
}

// dnsSubdomain is the library's rule, of which most names are seen to follow it without its expressions.
func dnsSubdomain(name string, prefix bool) []string {
	if plainLabel(name) {
		return nil
	}
	return apivalidation.NameIsDNSSubdomain(name, prefix)
}

func validateFinalizers(row *api.Resource, obj api.Object) field.ErrorList {
	if row.AnyFinalizer {
		return nil
	}
	return field.ErrorList(check.Finalizers(obj))
}

// validateChangedMeta checks the metadata of an update, in the order and as often as upstream's layers do: looks is the row's MetaOnUpdate.
func validateChangedMeta(row *api.Resource, obj, live api.Object, looks string) field.ErrorList {
	var changes field.ErrorList
	if !plainMeta(obj, row.Namespaced) || !plainUpdate(obj, live) {
		changes = apivalidation.ValidateObjectMetaAccessorUpdate(obj, live, metadataPath)
	}
	errs := append(validateSegment(row, obj), changes...)
	if row.LooseMeta {
		return errs
	}
	for _, look := range cmp.Or(looks, "U") {
		switch look {
		case 'N':
			errs = append(errs, validateNewMeta(row, obj)...)
		case 'U':
			errs = append(append(errs, changes...), validateFinalizers(row, obj)...)
		}
	}
	return errs
}

// validateSegment checks what holds for every name: that it can be a part of a path.
func validateSegment(row *api.Resource, obj api.Object) field.ErrorList {
	if plainMeta(obj, row.Namespaced) && plainNames(obj, path.ValidatePathSegmentName) {
		return nil
	}
	return apivalidation.ValidateObjectMetaAccessor(obj, row.Namespaced, path.ValidatePathSegmentName, metadataPath)
}

// ownerID is an owner reference that can be compared.
type ownerID struct {
	apiVersion, kind, name                     string
	uid                                        types.UID
	controller, anyController, block, anyBlock bool
}

// dedupOwners removes owner references that are there twice, with upstream's warning.
func dedupOwners(c *call, obj api.Object, afterAdmission bool) {
	owners := obj.GetOwnerReferences()
	if len(owners) < 2 {
		return
	}
	var kept []metav1.OwnerReference
	var twice []string
	seen := map[ownerID]bool{}
	for _, o := range owners {
		id := ownerID{o.APIVersion, o.Kind, o.Name, o.UID, ptr.Deref(o.Controller, false), o.Controller == nil, ptr.Deref(o.BlockOwnerDeletion, false), o.BlockOwnerDeletion == nil}
		if seen[id] {
			twice = append(twice, string(o.UID))
			continue
		}
		seen[id] = true
		kept = append(kept, o)
	}
	if len(twice) == 0 {
		return
	}
	obj.SetOwnerReferences(kept)
	when := ""
	if afterAdmission {
		when = " after mutating admission happens"
	}
	c.warn(fmt.Sprintf(".metadata.ownerReferences contains duplicate entries%s; API server dedups owner references in 1.20+, "+
		"and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: %v", when, strings.Join(twice, ", ")))
}

// inheritMeta keeps what an update may not change.
func inheritMeta(obj, old api.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	if t := old.GetCreationTimestamp(); !t.IsZero() {
		obj.SetCreationTimestamp(t)
	}
	if t := old.GetDeletionTimestamp(); !t.IsZero() {
		obj.SetDeletionTimestamp(t)
	}
	if grace := old.GetDeletionGracePeriodSeconds(); grace != nil && obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(grace)
	}
}

// bumpGeneration counts changes of what is desired.
func bumpGeneration(row *api.Resource, obj, old api.Object) {
	if !row.HasGeneration {
		return
	}
	changed := row.SpecChanged
	if changed == nil {
		changed = bodyChanged
	}
	if changed(obj, old) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// bodyChanged compares everything except metadata and status.
func bodyChanged(obj, old api.Object) bool {
	a, b := reflect.ValueOf(obj).Elem(), reflect.ValueOf(old).Elem()
	if a.Kind() != reflect.Struct {
		return !apiequality.Semantic.DeepEqual(obj, old)
	}
	for i := range a.NumField() {
		switch a.Type().Field(i).Name {
		case "TypeMeta", "ObjectMeta", "Status":
			continue
		}
		if !apiequality.Semantic.DeepEqual(a.Field(i).Addr().Interface(), b.Field(i).Addr().Interface()) {
			return true
		}
	}
	return false
}

// keepManagedTimes undoes new times of managed fields if nothing else of the object has changed, so that a write
// which changes nothing stays one.
func keepManagedTimes(obj, old api.Object) {
	fresh, former := obj.GetManagedFields(), old.GetManagedFields()
	if len(fresh) == 0 || len(fresh) != len(former) {
		return
	}
	kept := make([]metav1.ManagedFieldsEntry, len(fresh))
	for i := range fresh {
		if !sameOwnership(&fresh[i], &former[i]) {
			return
		}
		kept[i] = fresh[i]
		kept[i].Time = former[i].Time
	}
	obj.SetManagedFields(kept)
	if !sameObject(obj, old) {
		obj.SetManagedFields(fresh)
	}
}

// sameOwnership compares entries but for their times.
func sameOwnership(a, b *metav1.ManagedFieldsEntry) bool {
	return a.Manager == b.Manager && a.Operation == b.Operation && a.APIVersion == b.APIVersion && a.FieldsType == b.FieldsType && a.Subresource == b.Subresource &&
		(a.FieldsV1 == nil) == (b.FieldsV1 == nil) && (a.FieldsV1 == nil || bytes.Equal(a.FieldsV1.GetRawBytes(), b.FieldsV1.GetRawBytes()))
}

// sameObject compares objects. It begins with what they hold, where they mostly differ, and comes to their metadata last.
func sameObject(obj, old api.Object) bool {
	a, b := reflect.ValueOf(obj).Elem(), reflect.ValueOf(old).Elem()
	if a.Type() != b.Type() || a.Kind() != reflect.Struct {
		return apiequality.Semantic.DeepEqualWithNilDifferentFromEmpty(obj, old)
	}
	for i := a.NumField() - 1; i >= 0; i-- {
		if !sameField(a.Field(i).Addr().Interface(), b.Field(i).Addr().Interface()) {
			return false
		}
	}
	return true
}

func sameField(a, b any) bool {
	if texts, ok := a.(*map[string]string); ok {
		others := b.(*map[string]string)
		return (*texts == nil) == (*others == nil) && maps.Equal(*texts, *others)
	}
	return apiequality.Semantic.DeepEqualWithNilDifferentFromEmpty(a, b)
}

// checkPreconditions refuses a write to an object that took the place of the one meant. Upstream's dry runs don't know their keys' prefix.
func checkPreconditions(t target, ch change, live api.Object) error {
	var err error
	switch {
	case ch.uid != "" && ch.uid != live.GetUID():
		err = otherUID(ch.uid, live)
	case ch.version != "" && ch.version != live.GetResourceVersion():
		err = otherVersion(ch.version, live)
	default:
		return nil
	}
	root := "/registry/"
	if ch.dryRun {
		root = "/"
	}
	return apierrors.NewConflict(t.v.gr(), t.name, fmt.Errorf("StorageError: invalid object, Code: 4, Key: %s%s/%s, ResourceVersion: 0, AdditionalErrorMsg: %w",
		root, t.v.row.Prefix, t.key(), err))
}

func otherUID(uid types.UID, live api.Object) error {
	return fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, live.GetUID()) //nolint:staticcheck // upstream's words
}

func otherVersion(version string, live api.Object) error {
	return fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", version, live.GetResourceVersion()) //nolint:staticcheck // upstream's words
}

// wipeSystemFields clears what a client may not choose for a new object.
func wipeSystemFields(obj api.Object) {
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetUID("")
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
}
