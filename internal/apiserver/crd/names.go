package crd

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

type (
	definition = apiextensionsv1.CustomResourceDefinition
	condition  = apiextensionsv1.CustomResourceDefinitionCondition
)

// taken are the names that a group's definitions hold.
type taken struct{ resources, kinds map[string]bool }

// takenIn collects the names that the other definitions of a group have been granted.
func takenIn(all []*definition, d *definition) taken {
	t := taken{map[string]bool{}, map[string]bool{}}
	for _, other := range all {
		if other.Spec.Group != d.Spec.Group || other.Name == d.Name {
			continue
		}
		n := other.Status.AcceptedNames
		for _, name := range append([]string{n.Plural, n.Singular}, n.ShortNames...) {
			t.resources[name] = true
		}
		t.kinds[n.Kind], t.kinds[n.ListKind] = true, true
	}
	delete(t.resources, "")
	delete(t.kinds, "")
	return t
}

// grant decides which of the names that a definition asks for it gets. Those that it was granted before stay its own.
func grant(d *definition, t taken) (apiextensionsv1.CustomResourceDefinitionNames, condition) {
	asked, names := d.Spec.Names, *d.Status.AcceptedNames.DeepCopy()
	verdict := condition{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue, Reason: "NoConflicts", Message: "no conflicts found"}
	one := func(ask string, have *string, used map[string]bool, reason string) {
		if ask != *have && used[ask] {
			verdict.Status, verdict.Reason, verdict.Message = apiextensionsv1.ConditionFalse, reason, inUse(ask)
			return
		}
		*have = ask
	}
	one(asked.Plural, &names.Plural, t.resources, "PluralConflict")
	one(asked.Singular, &names.Singular, t.resources, "SingularConflict")
	var conflicts []string
	for _, short := range asked.ShortNames {
		if t.resources[short] && !slices.Contains(names.ShortNames, short) {
			conflicts = append(conflicts, inUse(short))
		}
	}
	switch len(conflicts) {
	case 0:
		names.ShortNames = asked.ShortNames
	case 1:
		verdict.Status, verdict.Reason, verdict.Message = apiextensionsv1.ConditionFalse, "ShortNamesConflict", conflicts[0]
	default:
		verdict.Status, verdict.Reason = apiextensionsv1.ConditionFalse, "ShortNamesConflict"
		verdict.Message = "[" + strings.Join(conflicts, ", ") + "]"
	}
	one(asked.Kind, &names.Kind, t.kinds, "KindConflict")
	one(asked.ListKind, &names.ListKind, t.kinds, "ListKindConflict")
	names.Categories = asked.Categories
	return names, verdict
}

func inUse(name string) string { return fmt.Sprintf("%q is already in use", name) }

// nextStatus is the status that a definition should have, apart from what comes of its deletion. Whether it is established
// is decided by what is accepted: the caller serves it before it tells.
func nextStatus(d *definition, all []*definition) *definition {
	out := d.DeepCopy()
	names, verdict := grant(d, takenIn(all, d))
	out.Status.AcceptedNames = names
	apihelpers.SetCRDCondition(out, verdict)
	if !apihelpers.IsCRDConditionTrue(d, apiextensionsv1.Established) {
		established := condition{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "NotAccepted", Message: "not all names are accepted"}
		if verdict.Status == apiextensionsv1.ConditionTrue {
			established.Status, established.Reason, established.Message = apiextensionsv1.ConditionTrue, "InitialNamesAccepted", "the initial names have been accepted"
		}
		apihelpers.SetCRDCondition(out, established)
	}
	setSchemaCondition(out)
	setApprovalCondition(out)
	return out
}

// setSchemaCondition tells what keeps a definition's schemas from being structural, if anything does.
func setSchemaCondition(d *definition) {
	var errs field.ErrorList
	if d.Spec.PreserveUnknownFields {
		errs = append(errs, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false"))
	}
	for i, v := range d.Spec.Versions {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		path := field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema")
		structural, err := structuralOf(v.Schema)
		if err != nil {
			errs = append(errs, field.Invalid(path, "", err.Error()))
			continue
		}
		errs = append(errs, structuralschema.ValidateStructural(path, structural)...)
	}
	if len(errs) == 0 {
		apihelpers.RemoveCRDCondition(d, apiextensionsv1.NonStructuralSchema)
		return
	}
	apihelpers.SetCRDCondition(d, condition{
		Type: apiextensionsv1.NonStructuralSchema, Status: apiextensionsv1.ConditionTrue, Reason: "Violations", Message: errs.ToAggregate().Error(),
	})
}

func setApprovalCondition(d *definition) {
	if !apihelpers.IsProtectedCommunityGroup(d.Spec.Group) {
		return
	}
	c := condition{Type: apiextensionsv1.KubernetesAPIApprovalPolicyConformant, Status: apiextensionsv1.ConditionFalse}
	state, reason := apihelpers.GetAPIApprovalState(d.Annotations)
	c.Message = reason
	switch state {
	case apihelpers.APIApprovalInvalid:
		c.Reason = "InvalidAnnotation"
	case apihelpers.APIApprovalMissing:
		c.Reason = "MissingAnnotation"
	case apihelpers.APIApproved:
		c.Status, c.Reason = apiextensionsv1.ConditionTrue, "ApprovedAnnotation"
	case apihelpers.APIApprovalBypassed:
		c.Reason = "UnapprovedAnnotation"
	default:
		c.Status, c.Reason = apiextensionsv1.ConditionUnknown, "UnknownAnnotation"
	}
	apihelpers.SetCRDCondition(d, c)
}

// internalSchema is a version's schema in the form that upstream's packages work on.
func internalSchema(v *apiextensionsv1.CustomResourceValidation) (*apiextensions.JSONSchemaProps, error) {
	out := &apiextensions.CustomResourceValidation{}
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.DeepCopy(), out, nil); err != nil {
		return nil, fmt.Errorf("convert a schema: %w", err)
	}
	return out.OpenAPIV3Schema, nil
}

func structuralOf(v *apiextensionsv1.CustomResourceValidation) (*structuralschema.Structural, error) {
	props, err := internalSchema(v)
	if err != nil {
		return nil, err
	}
	return structuralschema.NewStructural(props)
}
