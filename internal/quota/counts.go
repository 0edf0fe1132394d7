package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// counts counts objects.
type counts struct{ names []corev1.ResourceName }

// aliases are names of object counts that are older than count/….
var aliases = map[schema.GroupResource]corev1.ResourceName{
	{Resource: "configmaps"}:             corev1.ResourceConfigMaps,
	{Resource: "resourcequotas"}:         corev1.ResourceQuotas,
	{Resource: "replicationcontrollers"}: corev1.ResourceReplicationControllers,
	{Resource: "secrets"}:                corev1.ResourceSecrets,
}

func newCounts(gr schema.GroupResource) counts {
	c := counts{[]corev1.ResourceName{CountName(gr)}}
	if alias, ok := aliases[gr]; ok {
		c.names = append(c.names, alias)
	}
	return c
}

func (counts) Handles(r Request) bool { return r.Create && r.Subresource == "" }

func (c counts) Names(in []corev1.ResourceName) []corev1.ResourceName {
	return intersection(in, c.names)
}

func (counts) InScope(corev1.ScopedResourceSelectorRequirement, runtime.Object) bool { return false }

func (counts) Constraints([]corev1.ResourceName, runtime.Object) error { return nil }

func (c counts) Usage(runtime.Object, time.Time) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, n := range c.names {
		out[n] = count(1)
	}
	return out
}
