package apiregistration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	registrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// APIServices is the row of apiregistration.k8s.io/v1 APIService.
var APIServices = api.Register(&api.Resource{
	Group: "apiregistration.k8s.io", Name: "apiservices", Singular: "apiservice", Kind: "APIService",
	Categories:   []string{"api-extensions"},
	AnyFinalizer: true,
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[registrationv1.APIService, registrationv1.APIServiceList]("v1")},
	Prefix:       "apiregistration.k8s.io/apiservices",

	Default: api.On(func(s *registrationv1.APIService) {
		if s.Spec.Service != nil {
			registrationv1.SetDefaults_ServiceReference(s.Spec.Service)
		}
	}),
	PrepareCreate:  api.On(prepare),
	PrepareUpdate:  api.OnUpdate(func(s, old *registrationv1.APIService) { old.Status.DeepCopyInto(&s.Status) }),
	Validate:       api.Check(validateService),
	ValidateUpdate: api.CheckUpdate(func(s, _ *registrationv1.APIService) check.Errors { return validateService(s) }),
	NameRule:       func(name string, _ bool) []string { return path.IsValidPathSegmentName(name) },
	Status: &api.Status{
		PrepareUpdate: api.OnUpdate(func(s, old *registrationv1.APIService) {
			old.Spec.DeepCopyInto(&s.Spec)
			s.Labels, s.Annotations = maps.Clone(old.Labels), maps.Clone(old.Annotations)
			s.Finalizers, s.OwnerReferences = slices.Clone(old.Finalizers), slices.Clone(old.OwnerReferences)
		}),
		ValidateUpdate: api.CheckUpdate(validateStatus),
		ResetFields:    []string{"metadata", "spec"},
	},
	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Service", "string", "The reference to the service that hosts this API endpoint."),
		api.Column("Available", "string", "Whether this service is available."),
		api.AgeColumn,
	},
	Cells: api.Print(cells),
})

// prepare makes what this server serves itself available from the start.
func prepare(s *registrationv1.APIService) {
	s.Status = registrationv1.APIServiceStatus{}
	if s.Spec.Service == nil {
		s.Status.Conditions = []registrationv1.APIServiceCondition{{
			Type: registrationv1.Available, Status: registrationv1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Now()),
			Reason: "Local", Message: "Local APIServices are always available",
		}}
	}
}

func cells(s *registrationv1.APIService, p api.PrintOptions) []any {
	service, available := "Local", string(registrationv1.ConditionUnknown)
	if s.Spec.Service != nil {
		service = s.Spec.Service.Namespace + "/" + s.Spec.Service.Name
	}
	for _, c := range s.Status.Conditions {
		if c.Type != registrationv1.Available {
			continue
		}
		available = string(c.Status)
		if c.Status != registrationv1.ConditionTrue && c.Reason != "" {
			available = fmt.Sprintf("%s (%s)", c.Status, c.Reason)
		}
	}
	return []any{s.Name, service, available, api.Age(s.CreationTimestamp, p)}
}

func validateService(s *registrationv1.APIService) (e check.Errors) {
	spec := field.NewPath("spec")
	want := s.Spec.Version + "." + s.Spec.Group
	for _, name := range []struct{ field, text string }{{"generateName", s.GenerateName}, {"name", s.Name}} {
		if name.text != "" && name.text != want && len(path.IsValidPathSegmentName(name.text)) == 0 {
			e.Invalidf(field.NewPath("metadata", name.field), name.text, "must be `spec.version+\".\"+spec.group`: %q", want)
		}
	}
	if s.Spec.Group == "" && s.Spec.Version != "v1" {
		e.Required(spec.Child("group"), "only v1 may have an empty group and it better be legacy kube")
	}
	if s.Spec.Group != "" {
		e.Subdomain(spec.Child("group"), s.Spec.Group)
	}
	e.Messages(spec.Child("version"), s.Spec.Version, validation.IsDNS1035Label(s.Spec.Version))
	if p := s.Spec.GroupPriorityMinimum; p <= 0 || p > 20000 {
		e.Invalid(spec.Child("groupPriorityMinimum"), p, "must be positive and less than 20000")
	}
	if p := s.Spec.VersionPriority; p <= 0 || p > 1000 {
		e.Invalid(spec.Child("versionPriority"), p, "must be positive and less than 1000")
	}
	if s.Spec.Service == nil {
		if len(s.Spec.CABundle) != 0 {
			e.Invalid(spec.Child("caBundle"), fmt.Sprintf("%d bytes", len(s.Spec.CABundle)), "local APIServices may not have a caBundle")
		}
		if s.Spec.InsecureSkipTLSVerify {
			e.Invalid(spec.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify")
		}
		return e
	}
	service := spec.Child("service")
	e.NonEmpty(service.Child("namespace"), s.Spec.Service.Namespace)
	e.NonEmpty(service.Child("name"), s.Spec.Service.Name)
	if port := s.Spec.Service.Port; port != nil {
		if errs := validation.IsValidPortNum(int(*port)); errs != nil {
			e.Invalid(service.Child("port"), *port, "port is not valid: "+strings.Join(errs, ", "))
		}
	}
	if s.Spec.InsecureSkipTLSVerify && len(s.Spec.CABundle) > 0 {
		e.Invalid(spec.Child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present")
	}
	return e
}

func validateStatus(s, _ *registrationv1.APIService) (e check.Errors) {
	for i, c := range s.Status.Conditions {
		check.OneOf(&e, field.NewPath("status", "conditions").Index(i).Child("status"), c.Status, registrationv1.ConditionTrue, registrationv1.ConditionFalse, registrationv1.ConditionUnknown)
	}
	return e
}
