package apiserver

import (
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/apiserver/request"
)

// attributesOf is what the authorizer is asked about a request.
func attributesOf(info *request.Info, u user.Info) authorizer.AttributesRecord {
	a := authorizer.AttributesRecord{
		User: u, Verb: info.Verb, ResourceRequest: info.IsResource, Path: info.Path,
		APIGroup: info.Group, APIVersion: info.Version, Resource: info.Resource, Subresource: info.Subresource,
		Namespace: info.Namespace, Name: info.Name,
	}
	selectorAttributes(&a, info.FieldSelector, info.LabelSelector)
	return a
}

// selectorAttributes lets authorizers see what a list, watch or deletecollection is narrowed to.
func selectorAttributes(a *authorizer.AttributesRecord, fieldSelector, labelSelector string) {
	if fieldSelector != "" {
		if sel, err := fields.ParseSelector(fieldSelector); err != nil {
			a.FieldSelectorParsingErr = err
		} else {
			a.FieldSelectorRequirements = sel.Requirements()
		}
	}
	if labelSelector != "" {
		if sel, err := labels.Parse(labelSelector); err != nil {
			a.LabelSelectorParsingErr = err
		} else if reqs, selectable := sel.Requirements(); selectable {
			a.LabelSelectorRequirements = reqs
		}
	}
}
