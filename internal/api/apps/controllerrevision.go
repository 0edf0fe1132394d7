package apps

import (
	"encoding/json"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// ControllerRevisions is the row of apps/v1 ControllerRevision.
var ControllerRevisions = api.Register(&api.Resource{
	Group:        appsv1.GroupName,
	Name:         "controllerrevisions",
	Singular:     "controllerrevision",
	Kind:         "ControllerRevision",
	Namespaced:   true,
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[appsv1.ControllerRevision, appsv1.ControllerRevisionList]("v1")},
	Prefix:       "controllerrevisions",

	Validate: api.Check(validateControllerRevision),
	ValidateUpdate: api.CheckUpdate(func(n, o *appsv1.ControllerRevision) (e check.Errors) {
		e.NonNegative(field.NewPath("revision"), n.Revision)
		e.Unchanged(field.NewPath("data"), n.Data, o.Data)
		return e
	}),
	AllowUnconditionalUpdate: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Controller", "string", "Controller of the object"),
		api.Column("Revision", "string", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(r *appsv1.ControllerRevision, p api.PrintOptions) []any {
		return []any{r.Name, printController(r), r.Revision, api.Age(r.CreationTimestamp, p)}
	}),
})

func validateControllerRevision(r *appsv1.ControllerRevision) (e check.Errors) {
	e.NonNegative(field.NewPath("revision"), r.Revision)
	path := field.NewPath("data")
	if r.Data.Raw == nil {
		e.Required(path, "data is mandatory")
		return e
	}
	var data any
	if err := json.Unmarshal(r.Data.Raw, &data); err != nil {
		e.Invalid(path, "<value omitted>", "error parsing data: "+err.Error())
		return e
	}
	if data == nil {
		e.Required(path, "data is mandatory")
		return e
	}
	if _, ok := data.(map[string]any); !ok {
		e.Required(path, "data must be a valid JSON object")
	}
	return e
}

// printController names the controller of an object as kubectl names objects: kind.group/name.
func printController(o metav1.Object) string {
	ref := metav1.GetControllerOf(o)
	if ref == nil {
		return "<none>"
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return ref.Name
	}
	return strings.ToLower(gv.WithKind(ref.Kind).GroupKind().String()) + "/" + ref.Name
}
