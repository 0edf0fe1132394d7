package apiextensions

import (
	"slices"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
)

// CustomResourceDefinitions is the row of apiextensions.k8s.io/v1 CustomResourceDefinition.
var CustomResourceDefinitions = api.Register(&api.Resource{
	Group:      apiextensions.GroupName,
	Name:       "customresourcedefinitions",
	Singular:   "customresourcedefinition",
	Kind:       "CustomResourceDefinition",
	ShortNames: []string{"crd", "crds"},
	Categories: []string{"api-extensions"},
	Versions:   []api.Version{api.Serve[apiextensionsv1.CustomResourceDefinition, apiextensionsv1.CustomResourceDefinitionList]("v1"), stored},
	WrittenAs:  stored.Version,
	Prefix:     "apiextensions.k8s.io/customresourcedefinitions",

	Default:        api.On(defaultDefinition),
	PrepareCreate:  api.On(prepareDefinition),
	PrepareUpdate:  api.OnUpdate(prepareDefinitionUpdate),
	Validate:       api.Check(validateDefinition),
	ValidateUpdate: api.CheckUpdate(validateDefinitionUpdate),
	Warnings:       api.Warn(definitionWarnings),
	Canonicalize:   api.On(dropNothings),
	HasGeneration:  true,
	SpecChanged:    definitionChanged,
	AnyFinalizer:   true,
	MarkDeleting:   api.On(markDefinition),
	Status: &api.Status{
		PrepareUpdate: api.OnUpdate(func(d, old *apiextensionsv1.CustomResourceDefinition) {
			old.Spec.DeepCopyInto(&d.Spec)
		}),
		ValidateUpdate: api.CheckUpdate(validateDefinitionStatus),
	},
})

func defaultDefinition(d *apiextensionsv1.CustomResourceDefinition) {
	apiextensionsv1.SetDefaults_CustomResourceDefinition(d)
	if c := d.Spec.Conversion; c != nil && c.Webhook != nil && c.Webhook.ClientConfig != nil && c.Webhook.ClientConfig.Service != nil {
		apiextensionsv1.SetDefaults_ServiceReference(c.Webhook.ClientConfig.Service)
	}
}

// dropNothings leaves out what upstream's stored version says by absence.
func dropNothings(d *apiextensionsv1.CustomResourceDefinition) {
	if saysNothing(d.Spec.Conversion) {
		d.Spec.Conversion.Webhook = nil
	}
	for i := range d.Spec.Versions {
		if s := d.Spec.Versions[i].Schema; s != nil {
			dropItems(s.OpenAPIV3Schema)
		}
	}
}

// dropItems drops schemas of items that are none: they were given as something that no schema can be.
func dropItems(s *apiextensionsv1.JSONSchemaProps) {
	if s == nil {
		return
	}
	if s.Items != nil && s.Items.Schema == nil && len(s.Items.JSONSchemas) == 0 {
		s.Items = nil
	}
	if s.Items != nil {
		dropItems(s.Items.Schema)
	}
	if s.AdditionalProperties != nil {
		dropItems(s.AdditionalProperties.Schema)
	}
	for name, p := range s.Properties {
		dropItems(&p)
		s.Properties[name] = p
	}
}

// definitionChanged compares specs as they are stored: without webhooks that say nothing.
func definitionChanged(n, o api.Object) bool {
	d, old := n.(*apiextensionsv1.CustomResourceDefinition), o.(*apiextensionsv1.CustomResourceDefinition)
	if saysNothing(d.Spec.Conversion) {
		d = d.DeepCopy()
		d.Spec.Conversion.Webhook = nil
	}
	return !equality.Semantic.DeepEqual(d.Spec, old.Spec)
}

// saysNothing tells whether a conversion has a webhook that is none.
func saysNothing(c *apiextensionsv1.CustomResourceConversion) bool {
	return c != nil && c.Webhook != nil && c.Webhook.ClientConfig == nil && len(c.Webhook.ConversionReviewVersions) == 0
}

func prepareDefinition(d *apiextensionsv1.CustomResourceDefinition) {
	d.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
	noteStorageVersion(d)
}

func prepareDefinitionUpdate(d, old *apiextensionsv1.CustomResourceDefinition) {
	old.Status.DeepCopyInto(&d.Status)
	noteStorageVersion(d)
}

// noteStorageVersion remembers that objects may be stored as the storage version.
func noteStorageVersion(d *apiextensionsv1.CustomResourceDefinition) {
	for _, v := range d.Spec.Versions {
		if !v.Storage {
			continue
		}
		if !slices.Contains(d.Status.StoredVersions, v.Name) {
			d.Status.StoredVersions = append(d.Status.StoredVersions, v.Name)
		}
		return
	}
}

// markDefinition makes a definition stay until its objects are gone.
func markDefinition(d *apiextensionsv1.CustomResourceDefinition) {
	if !slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		d.Finalizers = append(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
	}
	apihelpers.SetCRDCondition(d, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionPending",
		Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon", LastTransitionTime: metav1.NewTime(time.Now()),
	})
}
