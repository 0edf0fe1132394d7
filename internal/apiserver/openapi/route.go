package openapi

import (
	"net/http"

	"k8s.io/kube-openapi/pkg/common"
)

// A model names the definition of a request's or response's body. Text is none of them.
type model string

// text is the model of a body that is no object.
const text model = "string"

// OpenAPIModelName implements util.OpenAPIModelNamer.
func (m model) OpenAPIModelName() string { return string(m) }

// A route is one method on one path. It implements common.Route.
type route struct {
	method, path, operation, description string
	consumes, produces                   []string
	params                               []common.Parameter
	metadata                             map[string]any
	body                                 model // "" for none
	optionalBody                         bool
	answers                              []common.StatusCodeResponse
}

// Method implements common.Route.
func (r *route) Method() string { return r.method }

// Path implements common.Route.
func (r *route) Path() string { return r.path }

// OperationName implements common.Route.
func (r *route) OperationName() string { return r.operation }

// Description implements common.Route.
func (r *route) Description() string { return r.description }

// Consumes implements common.Route.
func (r *route) Consumes() []string { return r.consumes }

// Produces implements common.Route.
func (r *route) Produces() []string { return r.produces }

// Metadata implements common.Route.
func (r *route) Metadata() map[string]any { return r.metadata }

// StatusCodeResponses implements common.Route.
func (r *route) StatusCodeResponses() []common.StatusCodeResponse { return r.answers }

// ResponsePayloadSample implements common.Route: every answer is named with its code.
func (r *route) ResponsePayloadSample() any { return nil }

// RequestPayloadSample implements common.Route.
func (r *route) RequestPayloadSample() any {
	if r.body == "" {
		return nil
	}
	return r.body
}

// Parameters implements common.Route.
func (r *route) Parameters() []common.Parameter {
	if r.body == "" {
		return r.params
	}
	return append(r.params[:len(r.params):len(r.params)], &parameter{name: "body", kind: common.BodyParameterKind, dataType: string(r.body), required: !r.optionalBody})
}

// returns sets the model of the answers with some codes.
func (r *route) returns(m model, codes ...int) *route {
	for _, code := range codes {
		r.answers = append(r.answers, answer{code, m})
	}
	return r
}

// An answer is a response with its code. It implements common.StatusCodeResponse.
type answer struct {
	code  int
	model model
}

// Code implements common.StatusCodeResponse.
func (a answer) Code() int { return a.code }

// Message implements common.StatusCodeResponse.
func (a answer) Message() string { return http.StatusText(a.code) }

// Model implements common.StatusCodeResponse.
func (a answer) Model() any { return a.model }

// A parameter is one parameter of a route. It implements common.Parameter.
type parameter struct {
	name, description, dataType string
	kind                        common.ParameterKind
	required                    bool
}

// Name implements common.Parameter.
func (p *parameter) Name() string { return p.name }

// Description implements common.Parameter.
func (p *parameter) Description() string { return p.description }

// Required implements common.Parameter.
func (p *parameter) Required() bool { return p.required }

// Kind implements common.Parameter.
func (p *parameter) Kind() common.ParameterKind { return p.kind }

// DataType implements common.Parameter.
func (p *parameter) DataType() string { return p.dataType }

// AllowMultiple implements common.Parameter.
func (p *parameter) AllowMultiple() bool { return false }

// A container is all routes below one path. It implements common.RouteContainer.
type container struct {
	root    string
	routes  []common.Route
	schemas [][]byte // of custom kinds
}

// RootPath implements common.RouteContainer.
func (c *container) RootPath() string { return c.root }

// PathParameters implements common.RouteContainer.
func (c *container) PathParameters() []common.Parameter { return nil }

// Routes implements common.RouteContainer.
func (c *container) Routes() []common.Route { return c.routes }
