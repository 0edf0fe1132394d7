package node

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// related allows what belongs to the node.
func (a *Authorizer) related(node string, rel relation, attrs authorizer.Attributes) (bool, string) {
	if attrs.GetName() == "" {
		return false, "No Object name found"
	}
	if rel(a, node, attrs.GetNamespace(), attrs.GetName()) {
		return true, ""
	}
	return false, fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

// get allows reading one object that belongs to the node.
func (a *Authorizer) get(node string, rel relation, attrs authorizer.Attributes) (bool, string) {
	if attrs.GetVerb() != "get" {
		return false, "can only get individual resources of this type"
	}
	if attrs.GetSubresource() != "" {
		return false, "cannot get subresource"
	}
	return a.related(node, rel, attrs)
}

// read allows reading and watching one object that belongs to the node.
func (a *Authorizer) read(node string, rel relation, attrs authorizer.Attributes) (bool, string) {
	switch {
	case !slices.Contains([]string{"get", "list", "watch"}, attrs.GetVerb()):
		return false, "can only read resources of this type"
	case attrs.GetSubresource() != "":
		return false, "cannot read subresource"
	case attrs.GetNamespace() == "":
		return false, "can only read namespaced object of this type"
	}
	return a.related(node, rel, attrs)
}

func (a *Authorizer) claimStatus(node string, attrs authorizer.Attributes) (bool, string) {
	if attrs.GetVerb() != "update" && attrs.GetVerb() != "patch" {
		return false, "can only get/update/patch this type"
	}
	return a.related(node, claimOf, attrs)
}

func (a *Authorizer) serviceAccount(node string, attrs authorizer.Attributes) (bool, string) {
	switch {
	case attrs.GetVerb() == "get" && attrs.GetSubresource() == "":
		return a.read(node, serviceAccountOf, attrs)
	case attrs.GetVerb() != "create" || attrs.GetName() == "":
		return false, "can only create tokens for individual service accounts"
	case attrs.GetSubresource() != "token":
		return false, "can only create token subresource of serviceaccount"
	}
	return a.related(node, serviceAccountOf, attrs)
}

// lease allows a node its own lease. A creation's name isn't known here: NodeRestriction checks it.
func lease(node string, attrs authorizer.Attributes) (bool, string) {
	switch {
	case !ownVerb(attrs):
		return false, "can only get, create, update, patch, or delete a node lease"
	case attrs.GetNamespace() != corev1.NamespaceNodeLease:
		return false, fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	case attrs.GetVerb() != "create" && attrs.GetName() != node:
		return false, "can only access node lease with the same name as the requesting node"
	}
	return true, ""
}

func csiNode(node string, attrs authorizer.Attributes) (bool, string) {
	switch {
	case !ownVerb(attrs):
		return false, "can only get, create, update, patch, or delete a CSINode"
	case attrs.GetSubresource() != "":
		return false, "cannot authorize CSINode subresources"
	case attrs.GetVerb() != "create" && attrs.GetName() != node:
		return false, "can only access CSINode with the same name as the requesting node"
	}
	return true, ""
}

// ownVerb tells whether a verb concerns one object.
func ownVerb(attrs authorizer.Attributes) bool {
	return slices.Contains([]string{"get", "create", "update", "patch", "delete"}, attrs.GetVerb())
}

func (a *Authorizer) resourceSlice(node string, attrs authorizer.Attributes) (bool, string) {
	if attrs.GetSubresource() != "" {
		return false, "cannot authorize ResourceSlice subresources"
	}
	switch attrs.GetVerb() {
	case "create": // NodeRestriction checks the node that it names
		return true, ""
	case "get", "update", "patch", "delete":
		return a.related(node, sliceOf, attrs)
	case "watch", "list", "deletecollection":
		if selects(attrs, "spec.nodeName", node) {
			return true, ""
		}
		return false, "can only list/watch/deletecollection resourceslices with nodeName field selector"
	}
	return false, "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"
}

// selects tells whether a request's field selector limits it to a value.
func selects(attrs authorizer.Attributes, field, value string) bool {
	reqs, err := attrs.GetFieldSelector()
	if err != nil {
		return false
	}
	for _, r := range reqs {
		if r.Field == field && r.Operator == selection.Equals && r.Value == value {
			return true
		}
	}
	return false
}

// ownNode allows a node its own Node, even before it exists. Which Node is written, NodeRestriction checks.
func ownNode(node string, attrs authorizer.Attributes) (bool, string) {
	switch attrs.GetSubresource() + " " + attrs.GetVerb() {
	case " create", " update", " patch", "status update", "status patch":
		return true, ""
	case " get", " list", " watch":
		switch attrs.GetName() {
		case node:
			return true, ""
		case "":
			return false, fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node)
		}
		return false, fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, attrs.GetName())
	}
	return false, ""
}

// pod allows a node the pods that are bound to it. Which pods are written, NodeRestriction checks.
func (a *Authorizer) pod(node string, attrs authorizer.Attributes) (bool, string) {
	switch attrs.GetSubresource() + " " + attrs.GetVerb() {
	case " create", " delete", "status update", "status patch", "eviction create":
		return true, ""
	case " get":
		return a.get(node, podOf, attrs)
	case " list", " watch":
		if selects(attrs, "spec.nodeName", node) {
			return true, ""
		}
		if attrs.GetName() != "" {
			return a.related(node, podOf, attrs)
		}
		return false, "can only list/watch pods with spec.nodeName field selector"
	}
	return false, ""
}
