package resource

import (
	"fmt"
	"strings"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// ResourceSlices is the row of resource.k8s.io/v1 ResourceSlice.
var ResourceSlices = api.Register(&api.Resource{
	Group:    resourcev1.GroupName,
	Name:     "resourceslices",
	Singular: "resourceslice",
	Kind:     "ResourceSlice",
	Versions: []api.Version{api.Serve[resourcev1.ResourceSlice, resourcev1.ResourceSliceList]("v1")},
	Prefix:   "resourceslices",

	ReturnsDeleted: true,

	Default:       api.On(defaultSlice),
	PrepareCreate: api.On(func(s *resourcev1.ResourceSlice) { dropAlpha(s, nil) }),
	PrepareUpdate: api.OnUpdate(func(s, old *resourcev1.ResourceSlice) {
		if !equality.Semantic.DeepEqual(s.Spec, old.Spec) {
			s.Generation = old.Generation + 1 // what is dropped below counts too
		}
		dropAlpha(s, old)
	}),
	Validate: api.Check(func(s *resourcev1.ResourceSlice) check.Errors { return validateSlice(s, nil) }),
	ValidateUpdate: api.CheckUpdate(func(n, o *resourcev1.ResourceSlice) check.Errors {
		return validateSlice(n, o)
	}),
	Warnings: api.Warn(func(s, _ *resourcev1.ResourceSlice) []string {
		if s.Spec.Driver == strings.ToLower(s.Spec.Driver) {
			return nil
		}
		return []string{fmt.Sprintf("spec.driver: driver names should be lowercase; %q contains uppercase characters", s.Spec.Driver)}
	}),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged:              func(n, o api.Object) bool { return false }, // PrepareUpdate counts
	UnknownField:             "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: %s",
	Fields: map[string]func(api.Object) string{
		resourcev1.ResourceSliceSelectorNodeName: api.Select(sliceNode),
		resourcev1.ResourceSliceSelectorDriver:   api.Select(func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver }),
	},
	Indexed: []string{resourcev1.ResourceSliceSelectorNodeName},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Node", "string", resourcev1.ResourceSliceSpec{}.SwaggerDoc()["nodeName"]),
		api.Column("Driver", "string", resourcev1.ResourceSliceSpec{}.SwaggerDoc()["driver"]),
		api.Column("Pool", "string", resourcev1.ResourcePool{}.SwaggerDoc()["name"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(s *resourcev1.ResourceSlice, p api.PrintOptions) []any {
		return []any{s.Name, sliceNode(s), s.Spec.Driver, s.Spec.Pool.Name, api.Age(s.CreationTimestamp, p)}
	}),
})

func sliceNode(s *resourcev1.ResourceSlice) string {
	if s.Spec.NodeName == nil {
		return ""
	}
	return *s.Spec.NodeName
}

// defaultSlice notes when devices were tainted.
func defaultSlice(s *resourcev1.ResourceSlice) {
	for i := range s.Spec.Devices {
		for j := range s.Spec.Devices[i].Taints {
			if t := &s.Spec.Devices[i].Taints[j]; t.TimeAdded == nil {
				t.TimeAdded = &metav1.Time{Time: time.Now().Truncate(time.Second)}
			}
		}
	}
}

// dropAlpha removes fields of features that are off by default in this version of Kubernetes, unless the slice has them already.
func dropAlpha(n, o *resourcev1.ResourceSlice) {
	lists, mappings := false, false
	if o != nil {
		for i := range o.Spec.Devices {
			mappings = mappings || len(o.Spec.Devices[i].NodeAllocatableResourceMappings) > 0
		}
		lists = hasLists(&o.Spec)
	}
	for i := range n.Spec.Devices {
		d := &n.Spec.Devices[i]
		if !mappings {
			d.NodeAllocatableResourceMappings = nil
		}
		if lists {
			continue
		}
		for name, a := range d.Attributes {
			a.BoolValues, a.IntValues, a.StringValues, a.VersionValues = nil, nil, nil, nil
			d.Attributes[name] = a
		}
	}
}

func hasLists(s *resourcev1.ResourceSliceSpec) bool {
	for i := range s.Devices {
		for _, a := range s.Devices[i].Attributes {
			if a.BoolValues != nil || a.IntValues != nil || a.StringValues != nil || a.VersionValues != nil {
				return true
			}
		}
	}
	return false
}
