package flowcontrol

import (
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

const (
	defaultPrecedence = 1000
	maxPrecedence     = 10000
)

// FlowSchemas is the row of flowcontrol.apiserver.k8s.io/v1 FlowSchema.
var FlowSchemas = api.Register(&api.Resource{
	Group:        flowcontrolv1.GroupName,
	Name:         "flowschemas",
	Singular:     "flowschema",
	Kind:         "FlowSchema",
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[flowcontrolv1.FlowSchema, flowcontrolv1.FlowSchemaList]("v1")},
	Prefix:       "flowschemas",

	Default: api.On(func(f *flowcontrolv1.FlowSchema) {
		if f.Spec.MatchingPrecedence == 0 {
			f.Spec.MatchingPrecedence = defaultPrecedence
		}
	}),
	PrepareCreate:            api.On(func(f *flowcontrolv1.FlowSchema) { f.Status = flowcontrolv1.FlowSchemaStatus{} }),
	PrepareUpdate:            api.OnUpdate(func(n, o *flowcontrolv1.FlowSchema) { n.Status = o.Status }),
	Validate:                 api.Check(validateFlowSchema),
	ValidateUpdate:           api.CheckSame(validateFlowSchema),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		return !equality.Semantic.DeepEqual(n.(*flowcontrolv1.FlowSchema).Spec, o.(*flowcontrolv1.FlowSchema).Spec)
	},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("PriorityLevel", "string", flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"]),
		api.Column("MatchingPrecedence", "string", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["matchingPrecedence"]),
		api.Column("DistinguisherMethod", "string", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["distinguisherMethod"]),
		api.AgeColumn,
		api.Column("MissingPL", "string", "references a broken or non-existent PriorityLevelConfiguration"),
	},
	Cells: api.Print(func(f *flowcontrolv1.FlowSchema, p api.PrintOptions) []any {
		method, missing := "<none>", "?"
		if f.Spec.DistinguisherMethod != nil {
			method = string(f.Spec.DistinguisherMethod.Type)
		}
		for _, c := range f.Status.Conditions {
			if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
				missing = string(c.Status)
				break
			}
		}
		return []any{f.Name, f.Spec.PriorityLevelConfiguration.Name, int64(f.Spec.MatchingPrecedence), method, api.Age(f.CreationTimestamp, p), missing}
	}),

	Status: &api.Status{
		MetaOnUpdate: "-",
		PrepareUpdate: api.OnUpdate(func(n, o *flowcontrolv1.FlowSchema) {
			keepMeta(&n.ObjectMeta, &o.ObjectMeta)
			n.Spec = o.Spec
		}),
		ValidateUpdate: api.CheckSame(validateFlowSchemaStatus),
		ResetFields:    []string{"metadata", "spec"},
	},
})

// keepMeta keeps all of an object's metadata from a client, but for what tells who set which field.
func keepMeta(n, o *metav1.ObjectMeta) {
	fields := n.ManagedFields
	*n = *o.DeepCopy()
	n.ManagedFields = fields
}

func validateFlowSchema(f *flowcontrolv1.FlowSchema) (e check.Errors) {
	s, spec := &f.Spec, field.NewPath("spec")
	switch n, at := s.MatchingPrecedence, spec.Child("matchingPrecedence"); {
	case n <= 0:
		e.Invalid(at, n, "must be a positive value")
	case n > maxPrecedence:
		e.Invalidf(at, n, "must not be greater than %v", maxPrecedence)
	case n == 1 && f.Name != "exempt":
		e.Invalid(at, n, "only the schema named 'exempt' may have matchingPrecedence 1")
	}
	if m := s.DistinguisherMethod; m != nil {
		methods := []flowcontrolv1.FlowDistinguisherMethodType{flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType}
		if !slices.Contains(methods, m.Type) {
			e.Add(field.NotSupported(spec.Child("distinguisherMethod", "type"), m, methods))
		}
	}
	if at, name := spec.Child("priorityLevelConfiguration", "name"), s.PriorityLevelConfiguration.Name; name == "" {
		e.Required(at, "must reference a priority level")
	} else {
		e.Subdomain(at, name)
	}
	for i := range s.Rules {
		e.Add(validateRules(&s.Rules[i], spec.Child("rules").Index(i))...)
	}
	if fixed, there := fixedSchemas[f.Name]; there && !equality.Semantic.DeepEqual(*s, fixed) {
		e.Invalid(spec, *s, "spec of '"+f.Name+"' must equal the fixed value")
	}
	e.Add(validateFlowSchemaStatus(f)...)
	return e
}

func validateFlowSchemaStatus(f *flowcontrolv1.FlowSchema) (e check.Errors) {
	var types []string
	for _, c := range f.Status.Conditions {
		types = append(types, string(c.Type))
	}
	return validateConditions(types)
}

// validateConditions requires a type of each condition of a status, and another of each.
func validateConditions(types []string) (e check.Errors) {
	seen := map[string]bool{}
	for i, t := range types {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		if seen[t] {
			e.Duplicate(at, t)
		}
		seen[t] = true
		if t == "" {
			e.Required(at, "")
		}
	}
	return e
}

func validateRules(r *flowcontrolv1.PolicyRulesWithSubjects, at *field.Path) (e check.Errors) {
	if len(r.Subjects) == 0 {
		e.Required(at.Child("subjects"), "subjects must contain at least one value")
	}
	for i := range r.Subjects {
		e.Add(validateSubject(&r.Subjects[i], at.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		e.Required(at, "at least one of resourceRules and nonResourceRules has to be non-empty")
	}
	for i := range r.ResourceRules {
		e.Add(validateResourceRule(&r.ResourceRules[i], at.Child("resourceRules").Index(i))...)
	}
	for i := range r.NonResourceRules {
		e.Add(validateNonResourceRule(&r.NonResourceRules[i], at.Child("nonResourceRules").Index(i))...)
	}
	return e
}

// validateSubject requires what the kind names, and nothing else.
func validateSubject(s *flowcontrolv1.Subject, at *field.Path) (e check.Errors) {
	kinds := []flowcontrolv1.SubjectKind{flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser}
	if !slices.Contains(kinds, s.Kind) {
		e.Add(field.NotSupported(at.Child("kind"), s.Kind, kinds))
		return e
	}
	one := func(kind flowcontrolv1.SubjectKind, name string, there bool, validate func(at *field.Path)) {
		switch {
		case kind != s.Kind && there:
			e.Forbidden(at.Child(name), name+" is forbidden when subject kind is not '"+string(kind)+"'")
		case kind == s.Kind && !there:
			e.Required(at.Child(name), name+" is required when subject kind is '"+string(kind)+"'")
		case kind == s.Kind:
			validate(at.Child(name))
		}
	}
	one(flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil, func(at *field.Path) {
		if name := s.ServiceAccount.Name; name == "" {
			e.Required(at.Child("name"), "")
		} else if name != flowcontrolv1.NameAll {
			e.Messages(at.Child("name"), name, apivalidation.ValidateServiceAccountName(name, false))
		}
		if namespace := s.ServiceAccount.Namespace; namespace == "" {
			e.Required(at.Child("namespace"), "must specify namespace for service account")
		} else {
			e.Messages(at.Child("namespace"), namespace, apivalidation.ValidateNamespaceName(namespace, false))
		}
	})
	one(flowcontrolv1.SubjectKindUser, "user", s.User != nil, func(at *field.Path) {
		if s.User.Name == "" {
			e.Required(at.Child("name"), "")
		}
	})
	one(flowcontrolv1.SubjectKindGroup, "group", s.Group != nil, func(at *field.Path) {
		if s.Group.Name == "" {
			e.Required(at.Child("name"), "")
		}
	})
	return e
}

// Alphabetical.
var verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}

// alone tells whether the values are named one by one, and complains of an asterisk beside others.
func alone(e *check.Errors, values []string, at *field.Path, what string) (named bool) {
	every := slices.Contains(values, "*")
	if every && len(values) > 1 {
		e.Invalid(at, values, "if '*' is present, must not specify other "+what)
	}
	return !every
}

func validateVerbs(e *check.Errors, list []string, at *field.Path) {
	if len(list) == 0 {
		e.Required(at, "verbs must contain at least one value")
	} else if alone(e, list, at, "verbs") && slices.ContainsFunc(list, func(v string) bool { return !slices.Contains(verbs, v) }) {
		e.Add(field.NotSupported(at, list, verbs))
	}
}

func validateNonResourceRule(r *flowcontrolv1.NonResourcePolicyRule, at *field.Path) (e check.Errors) {
	validateVerbs(&e, r.Verbs, at.Child("verbs"))
	urls := at.Child("nonResourceURLs")
	if len(r.NonResourceURLs) == 0 {
		e.Required(urls, "nonResourceURLs must contain at least one value")
	} else if alone(&e, r.NonResourceURLs, urls, "non-resource URLs") {
		for i, url := range r.NonResourceURLs {
			if text := badURL(url); text != "" {
				e.Invalid(urls.Index(i), url, text)
			}
		}
	}
	return e
}

func badURL(url string) string {
	switch stars := strings.Count(url, "*"); {
	case url == "":
		return "must not be empty"
	case !strings.HasPrefix(url, "/"):
		return "must start with slash"
	case strings.Contains(url, " "):
		return "must not contain white-space"
	case strings.Contains(url, "//"):
		return "must not contain double slash"
	case stars > 1 || stars == 1 && !strings.HasSuffix(url, "/*"):
		return "wildcard can only do suffix matching"
	}
	return ""
}

func validateResourceRule(r *flowcontrolv1.ResourcePolicyRule, at *field.Path) (e check.Errors) {
	validateVerbs(&e, r.Verbs, at.Child("verbs"))
	if len(r.APIGroups) == 0 {
		e.Required(at.Child("apiGroups"), "resource rules must supply at least one api group")
	}
	alone(&e, r.APIGroups, at.Child("apiGroups"), "api groups")
	if len(r.Resources) == 0 {
		e.Required(at.Child("resources"), "resource rules must supply at least one resource")
	}
	alone(&e, r.Resources, at.Child("resources"), "resources")
	namespaces := at.Child("namespaces")
	if len(r.Namespaces) == 0 && !r.ClusterScope {
		e.Required(namespaces, "resource rules that are not cluster scoped must supply at least one namespace")
	} else if alone(&e, r.Namespaces, namespaces, "namespaces") {
		for i, n := range r.Namespaces {
			for _, msg := range apivalidation.ValidateNamespaceName(n, false) {
				e.Invalid(namespaces.Index(i), n, "each member of this list must be '*' or a DNS-1123 label; "+msg)
			}
		}
	}
	return e
}
