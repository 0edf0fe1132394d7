package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/patch"
)

// A patchRequest is a patch to be applied.
type patchRequest struct {
	kind    types.PatchType
	data    []byte
	options *metav1.PatchOptions
}

func (s *Server) servePatch(w http.ResponseWriter, r *http.Request, t target) error {
	media, ok := negotiate.Output(r, negotiate.Any)
	if !ok {
		return negotiate.NotAcceptable(negotiate.Any)
	}
	p, err := s.readPatch(r)
	if err != nil {
		return err
	}
	doc, created, err := s.patch(r.Context(), t, p)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	return s.sendDocument(w, r, code, t.v, doc, media)
}

// readPatch reads a patch and its options.
func (s *Server) readPatch(r *http.Request) (patchRequest, error) {
	if !s.routesPatch(r) {
		return patchRequest{}, negotiate.UnroutedBody()
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	kind := types.PatchType(mediaType)
	o, err := queryOptions(r, func(v *url.Values, o *metav1.PatchOptions) error {
		return metav1.Convert_url_Values_To_v1_PatchOptions(v, o, nil)
	})
	if err != nil {
		return patchRequest{}, err
	}
	data, err := s.readBody(r)
	if err != nil {
		return patchRequest{}, err
	}
	return patchRequest{kind, data, o}, invalidOptions("PatchOptions", metav1validation.ValidatePatchOptions(o, kind))
}

func (s *Server) routesPatch(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && slices.Contains(s.patchTypes(), mediaType)
}

// patchTypes are those served; apply needs a tracker.
func (s *Server) patchTypes() []string {
	out := []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType)}
	if s.cfg.Tracker != nil {
		out = append(out, string(types.ApplyYAMLPatchType))
	}
	return out
}

// patch applies a patch to an object, or to the part of it that a subresource is.
func (s *Server) patch(ctx context.Context, t target, p patchRequest) (*document, bool, error) {
	ch := change{options: updateOptionsOf(p.options), dryRun: dryRun(p.options.DryRun)}
	if p.kind == types.ApplyYAMLPatchType {
		if s.cfg.Tracker == nil {
			return nil, false, negotiate.Unsupported(s.patchTypes()...)
		}
		ch.allowCreate = t.sub == ""
		ch.compute = func(live api.Object) (api.Object, error) { return s.applied(callOf(ctx), t, p, live) }
		return s.update(ctx, t, ch)
	}
	ch.manager = managerOf(p.options.FieldManager, callOf(ctx).agent)
	ch.compute = func(live api.Object) (api.Object, error) {
		obj, err := s.patched(callOf(ctx), t.v, p, live)
		if err != nil {
			return nil, err
		}
		return obj, checkPatched(t, obj)
	}
	return s.update(ctx, t, ch)
}

func updateOptionsOf(o *metav1.PatchOptions) *metav1.UpdateOptions {
	return &metav1.UpdateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
}

func checkPatched(t target, obj api.Object) error {
	if err := placeInNamespace(t.v, t.namespace, obj); err != nil {
		return err
	}
	return checkName(obj, t.name)
}

// patched applies a patch of one of the three kinds that change the live object.
func (s *Server) patched(c *call, v *version, p patchRequest, live api.Object) (api.Object, error) {
	original, err := v.fromHub(live)
	if err != nil {
		return nil, err
	}
	out := v.api.New()
	shown, err := applyPatch(c, p, typed(original, v.gvk), out)
	if err != nil {
		return nil, err
	}
	if u, ok := out.(*unstructured.Unstructured); ok {
		given, _, err := unstructured.NestedString(u.Object, "apiVersion")
		if err != nil {
			return nil, patch.Invalid(shown, err)
		}
		if given == "" {
			return nil, apierrors.NewInternalError(runtime.NewMissingVersionErr("object has no apiVersion field"))
		}
	}
	return v.acceptChecked(c, out, p.options.FieldValidation, func(err error) error { return patch.Invalid(shown, err) })
}

// applyPatch applies a patch and does with its unknown fields what its options say. shown is what errors about the result show.
func applyPatch(c *call, p patchRequest, original, out runtime.Object) (shown string, err error) {
	directive := strictness(p.options.FieldValidation)
	strict, shown, err := patch.Apply(p.kind, original, p.data, out, directive != metav1.FieldValidationIgnore)
	if err != nil || len(strict) == 0 {
		return shown, err
	}
	if directive == metav1.FieldValidationStrict {
		return "", patch.Invalid(shown, runtime.NewStrictDecodingError(strict))
	}
	for _, e := range strict {
		c.warn(decodingWarnings(e)...)
	}
	return shown, nil
}

// applied merges an apply patch by field ownership.
func (s *Server) applied(c *call, t target, p patchRequest, live api.Object) (api.Object, error) {
	force := p.options.Force != nil && *p.options.Force
	obj, err := s.cfg.Tracker.Apply(t.tracked(), live, p.data, p.options.FieldManager, force)
	if err != nil {
		return nil, err
	}
	if err := checkStrictYAML(c, p); err != nil {
		return nil, err
	}
	if live == nil && obj.GetUID() != "" {
		return nil, apierrors.NewConflict(t.v.gr(), t.name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", obj.GetUID()))
	}
	if t.v.text() {
		if obj, err = t.v.fill(obj); err != nil {
			return nil, err
		}
		return obj, checkPatched(t, obj)
	}
	dropType(obj)
	if t.v.row.Default != nil {
		t.v.row.Default(obj)
	}
	return obj, checkPatched(t, obj)
}

// checkStrictYAML looks for duplicate fields in an apply patch.
func checkStrictYAML(c *call, p patchRequest) error {
	directive := strictness(p.options.FieldValidation)
	if directive == metav1.FieldValidationIgnore {
		return nil
	}
	err := yaml.UnmarshalStrict(p.data, &map[string]any{})
	if err == nil {
		return nil
	}
	if directive == metav1.FieldValidationStrict {
		return apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", err))
	}
	c.warn(decodingWarnings(err)...)
	return nil
}

// patchScale applies a patch to an object's scale.
func (s *Server) patchScale(w http.ResponseWriter, r *http.Request, t target, m negotiate.Media) error {
	p, err := s.readPatch(r)
	if err != nil {
		return err
	}
	doc, err := s.scalePatched(r.Context(), t, p)
	if err != nil {
		return err
	}
	return s.sendScale(w, r, t, doc, m)
}

func (s *Server) scalePatched(ctx context.Context, t target, p patchRequest) (*document, error) {
	if p.kind == types.ApplyYAMLPatchType {
		return s.applyScale(ctx, t, p)
	}
	c := callOf(ctx)
	compute := func(live *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		out := &autoscalingv1.Scale{}
		if _, err := applyPatch(c, p, typed(live, scaleKind), out); err != nil {
			return nil, err
		}
		if err := placeInNamespace(t.v, t.namespace, out); err != nil {
			return nil, err
		}
		if err := checkName(out, t.name); err != nil {
			return nil, err
		}
		dedupOwners(c, out, true)
		return out, nil
	}
	return s.changeScale(ctx, t, "", compute, updateOptionsOf(p.options), managerOf(p.options.FieldManager, c.agent), dryRun(p.options.DryRun))
}

// applyScale applies a scale as what it is to the tracker: an apply patch of the object that has the replicas alone.
func (s *Server) applyScale(ctx context.Context, t target, p patchRequest) (*document, error) {
	if s.cfg.Tracker == nil {
		return nil, negotiate.Unsupported(s.patchTypes()...)
	}
	var scale autoscalingv1.Scale
	if err := yaml.Unmarshal(p.data, &scale); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if err := checkStrictYAML(callOf(ctx), p); err != nil {
		return nil, err
	}
	data, err := t.replicasPatch(&scale)
	if err != nil {
		return nil, err
	}
	force := p.options.Force != nil && *p.options.Force
	doc, _, err := s.update(ctx, t, change{
		compute: func(live api.Object) (api.Object, error) {
			return s.cfg.Tracker.Apply(t.tracked(), live, data, p.options.FieldManager, force)
		},
		uid: scale.UID, options: updateOptionsOf(p.options), dryRun: dryRun(p.options.DryRun),
	})
	return doc, err
}

// replicasPatch is the apply patch of the parent that a scale amounts to.
func (t target) replicasPatch(scale *autoscalingv1.Scale) ([]byte, error) {
	apiVersion, kind := t.v.gvk.ToAPIVersionAndKind()
	metadata := map[string]any{"name": t.name, "namespace": t.namespace}
	if scale.ResourceVersion != "" {
		metadata["resourceVersion"] = scale.ResourceVersion
	}
	patch := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": metadata}
	path := strings.Split(t.v.row.Scale.ReplicasPath, ".")
	if err := unstructured.SetNestedField(patch, int64(scale.Spec.Replicas), path...); err != nil {
		return nil, fmt.Errorf("set %s: %w", t.v.row.Scale.ReplicasPath, err)
	}
	return json.Marshal(patch)
}
