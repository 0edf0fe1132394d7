package expression

import (
	apiservercel "k8s.io/apiserver/pkg/cel"
)

func object(name string, fields map[string]*apiservercel.DeclType) *apiservercel.DeclType {
	out := make(map[string]*apiservercel.DeclField, len(fields))
	for field, typ := range fields {
		out[field] = apiservercel.NewDeclField(field, typ, true, nil, nil)
	}
	return apiservercel.NewObjectType(name, out)
}

var (
	text    = apiservercel.StringType
	texts   = apiservercel.NewListType(apiservercel.StringType, -1)
	textMap = apiservercel.NewMapType(apiservercel.StringType, apiservercel.StringType, -1)

	kindType     = object("kubernetes.GroupVersionKind", map[string]*apiservercel.DeclType{"group": text, "version": text, "kind": text})
	resourceType = object("kubernetes.GroupVersionResource", map[string]*apiservercel.DeclType{"group": text, "version": text, "resource": text})
	userType     = object("kubernetes.UserInfo", map[string]*apiservercel.DeclType{
		"username": text, "uid": text, "groups": texts, "extra": apiservercel.NewMapType(text, texts, -1),
	})
	requestType = object("kubernetes.AdmissionRequest", map[string]*apiservercel.DeclType{
		"kind": kindType, "resource": resourceType, "subResource": text, "requestKind": kindType, "requestResource": resourceType,
		"requestSubResource": text, "name": text, "namespace": text, "operation": text, "userInfo": userType, "dryRun": apiservercel.BoolType,
		"options": apiservercel.DynType,
	})

	conditionType = object("kubernetes.NamespaceCondition", map[string]*apiservercel.DeclType{
		"status": text, "type": text, "lastTransitionTime": apiservercel.TimestampType, "message": text, "reason": text,
	})
	namespaceType = object("kubernetes.Namespace", map[string]*apiservercel.DeclType{
		"metadata": object("kubernetes.NamespaceMetadata", map[string]*apiservercel.DeclType{
			"name": text, "generateName": text, "namespace": text, "labels": textMap, "annotations": textMap, "UID": text,
			"creationTimestamp": apiservercel.TimestampType, "deletionGracePeriodSeconds": apiservercel.IntType,
			"deletionTimestamp": apiservercel.TimestampType, "generation": apiservercel.IntType, "resourceVersion": text, "finalizers": texts,
		}),
		"spec":   object("kubernetes.NamespaceSpec", map[string]*apiservercel.DeclType{"finalizers": texts}),
		"status": object("kubernetes.NamespaceStatus", map[string]*apiservercel.DeclType{"conditions": apiservercel.NewListType(conditionType, -1), "phase": text}),
	})
)
