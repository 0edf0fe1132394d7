package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"sigs.k8s.io/yaml"
)

// loadPolicy reads a policy. Fields that it doesn't know are told of and passed over.
func loadPolicy(path string, log *slog.Logger) (*auditv1.Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the audit policy: %w", err)
	}
	p, err := parsePolicy(data, log)
	if err != nil {
		return nil, fmt.Errorf("audit policy %s: %w", path, err)
	}
	return p, nil
}

func parsePolicy(data []byte, log *slog.Logger) (*auditv1.Policy, error) {
	p := &auditv1.Policy{}
	if err := yaml.UnmarshalStrict(data, p); err != nil {
		log.Warn("Audit policy contains errors, falling back to lenient decoding", "error", err)
		p = &auditv1.Policy{}
		if err := yaml.Unmarshal(data, p); err != nil {
			return nil, fmt.Errorf("failed decoding: %w", err)
		}
	}
	if p.APIVersion != auditv1.SchemeGroupVersion.String() || p.Kind != "Policy" {
		return nil, fmt.Errorf("unknown group version field %s, Kind=%s in policy", p.APIVersion, p.Kind)
	}
	if errs := validatePolicy(p); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	if len(p.Rules) == 0 {
		return nil, errors.New("loaded illegal policy with 0 rules")
	}
	// What the policy omits, each of its rules does.
	for i := range p.Rules {
		r := &p.Rules[i]
		r.OmitStages = slices.Concat(r.OmitStages, p.OmitStages)
		if r.OmitManagedFields == nil {
			r.OmitManagedFields = &p.OmitManagedFields
		}
	}
	return p, nil
}

var (
	levels = []auditv1.Level{auditv1.LevelNone, auditv1.LevelMetadata, auditv1.LevelRequest, auditv1.LevelRequestResponse}
	stages = []auditv1.Stage{auditv1.StageRequestReceived, auditv1.StageResponseStarted, auditv1.StageResponseComplete, auditv1.StagePanic}
)

func validatePolicy(p *auditv1.Policy) field.ErrorList {
	errs := validateStages(p.OmitStages, field.NewPath("omitStages"))
	for i := range p.Rules {
		errs = append(errs, validateRule(&p.Rules[i], field.NewPath("rules").Index(i))...)
	}
	return errs
}

func validateRule(r *auditv1.PolicyRule, at *field.Path) (errs field.ErrorList) {
	if r.Level == "" {
		errs = append(errs, field.Required(at.Child("level"), ""))
	} else if !slices.Contains(levels, r.Level) {
		errs = append(errs, field.NotSupported(at.Child("level"), r.Level, levels))
	}
	for i, url := range r.NonResourceURLs {
		at := at.Child("nonResourceURLs").Index(i)
		if url != "*" && !strings.HasPrefix(url, "/") {
			errs = append(errs, field.Invalid(at, url, "non-resource URL rules must begin with a '/' character"))
		}
		if url != "" && strings.Contains(url[:len(url)-1], "*") {
			errs = append(errs, field.Invalid(at, url, "non-resource URL wildcards '*' must be the final character of the rule"))
		}
	}
	for _, gr := range r.Resources {
		at := at.Child("resources")
		if gr.Group != "" && gr.Group != "*" {
			if msgs := validation.NameIsDNSSubdomain(gr.Group, false); len(msgs) > 0 {
				errs = append(errs, field.Invalid(at.Child("group"), gr.Group, strings.Join(msgs, ",")))
			}
		}
		if len(gr.ResourceNames) > 0 && len(gr.Resources) == 0 {
			errs = append(errs, field.Invalid(at.Child("resourceNames"), gr.ResourceNames, "using resourceNames requires at least one resource"))
		}
	}
	errs = append(errs, validateStages(r.OmitStages, at.Child("omitStages"))...)
	if len(r.NonResourceURLs) > 0 && (len(r.Resources) > 0 || len(r.Namespaces) > 0) {
		errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
	}
	return errs
}

func validateStages(list []auditv1.Stage, at *field.Path) (errs field.ErrorList) {
	names := make([]string, len(stages))
	for i, s := range stages {
		names[i] = string(s)
	}
	for i, s := range list {
		if !slices.Contains(stages, s) {
			errs = append(errs, field.Invalid(at.Index(i), string(s), "allowed stages are "+strings.Join(names, ",")))
		}
	}
	return errs
}

// ruleFor returns the first rule that matches a request, or nil if it is not to be recorded.
func ruleFor(p *auditv1.Policy, a authorizer.Attributes) *auditv1.PolicyRule {
	for i := range p.Rules {
		if matches(&p.Rules[i], a) {
			if p.Rules[i].Level == auditv1.LevelNone {
				return nil
			}
			return &p.Rules[i]
		}
	}
	return nil
}

func matches(r *auditv1.PolicyRule, a authorizer.Attributes) bool {
	u := a.GetUser()
	switch {
	case len(r.Users) > 0 && (u == nil || !slices.Contains(r.Users, u.GetName())),
		len(r.UserGroups) > 0 && (u == nil || !slices.ContainsFunc(u.GetGroups(), func(g string) bool { return slices.Contains(r.UserGroups, g) })),
		len(r.Verbs) > 0 && !slices.Contains(r.Verbs, a.GetVerb()):
		return false
	case len(r.Namespaces) > 0 || len(r.Resources) > 0:
		return a.IsResourceRequest() && (len(r.Namespaces) == 0 || slices.Contains(r.Namespaces, a.GetNamespace())) && matchesResources(r.Resources, a)
	case len(r.NonResourceURLs) > 0:
		return !a.IsResourceRequest() && matchesPath(r.NonResourceURLs, a.GetPath())
	}
	return true
}

func matchesPath(list []string, path string) bool {
	return slices.ContainsFunc(list, func(spec string) bool {
		if prefix, wild := strings.CutSuffix(spec, "*"); wild {
			return strings.HasPrefix(path, prefix)
		}
		return spec == path
	})
}

func matchesResources(list []auditv1.GroupResources, a authorizer.Attributes) bool {
	if len(list) == 0 {
		return true
	}
	for _, gr := range list {
		if gr.Group != a.GetAPIGroup() && gr.Group != "*" {
			continue
		}
		if len(gr.Resources) == 0 {
			return true
		}
		named := len(gr.ResourceNames) == 0 || slices.Contains(gr.ResourceNames, a.GetName())
		if named && slices.ContainsFunc(gr.Resources, func(spec string) bool { return matchesResource(spec, a.GetResource(), a.GetSubresource()) }) {
			return true
		}
	}
	return false
}

// matchesResource compares with "pods", "pods/log", "pods/*" (the pods too), "*/scale" or "*".
func matchesResource(spec, resource, sub string) bool {
	if spec == "*" {
		return true
	}
	specResource, specSub, _ := strings.Cut(spec, "/")
	switch {
	case specSub == "*":
		return specResource == resource
	case specResource == "*":
		return sub != "" && specSub == sub
	}
	return specResource == resource && specSub == sub
}
