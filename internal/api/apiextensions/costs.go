package apiextensions

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"

	"clipper.dev/clipper/internal/api/check"
)

// What one rule, and all rules of a schema together, may cost by CEL's estimate.
const (
	maxRuleCost   = 10000000
	maxSchemaCost = 100000000
)

// ruleTypes is a part of a schema as CEL sees it.
type ruleTypes struct {
	schema *structuralschema.Structural
	decl   *apiservercel.DeclType
}

// costScope is how often a part of a schema may occur in an object, and what rules in it cost so far. A nil scope is of a part
// where no rules are looked at.
type costScope struct {
	parent *costScope
	schema *apiextensions.JSONSchemaProps
	within func(parent *ruleTypes) *ruleTypes // finds this part's types in the parent's
	most   *uint64                            // how often the part occurs at most; nil is without bound
	total  *totalCost

	known bool
	types *ruleTypes
	err   error
}

func rootCosts(schema *apiextensions.JSONSchemaProps) *costScope {
	one := uint64(1)
	return &costScope{schema: schema, most: &one, total: &totalCost{}}
}

func (c *costScope) child(schema *apiextensions.JSONSchemaProps, within func(*ruleTypes) *ruleTypes) *costScope {
	if c == nil {
		return nil
	}
	out := &costScope{parent: c, schema: schema, within: within, total: c.total}
	if c.schema == nil || c.most == nil {
		return out
	}
	if each := elements(c.schema); each != nil {
		n := saturatingProduct(*c.most, *each)
		out.most = &n
	}
	return out
}

func (c *costScope) property(schema *apiextensions.JSONSchemaProps, name string) *costScope {
	return c.child(schema, func(parent *ruleTypes) *ruleTypes {
		structural := parent.schema.Properties[name]
		escaped, ok := apiservercel.Escape(name)
		if !ok {
			return nil
		}
		declared, ok := parent.decl.Fields[escaped]
		if !ok {
			return nil
		}
		return &ruleTypes{&structural, declared.Type}
	})
}

func (c *costScope) items(schema *apiextensions.JSONSchemaProps) *costScope {
	return c.child(schema, func(parent *ruleTypes) *ruleTypes {
		if parent.schema.Items == nil {
			return nil
		}
		return &ruleTypes{parent.schema.Items, parent.decl.ElemType}
	})
}

func (c *costScope) values(schema *apiextensions.JSONSchemaProps) *costScope {
	return c.child(schema, func(parent *ruleTypes) *ruleTypes {
		if parent.schema.AdditionalProperties == nil {
			return nil
		}
		return &ruleTypes{parent.schema.AdditionalProperties.Structural, parent.decl.ElemType}
	})
}

// declared returns the part's types. Bounds that the schemas above declare make estimates tighter, so they are taken from
// the outermost part that has rules.
func (c *costScope) declared() (*ruleTypes, error) {
	if c.known {
		return c.types, c.err
	}
	c.known = true
	if c.parent != nil && c.parent.ruled() {
		parent, err := c.parent.declared()
		if err != nil {
			c.err = err
			return nil, err
		}
		if parent != nil {
			if c.types = c.within(parent); c.types != nil {
				return c.types, nil
			}
		}
	}
	structural, err := structuralschema.NewStructural(c.schema)
	if err != nil {
		c.err = fmt.Errorf("internal error: failed to construct type information for x-kubernetes-validations rules: %w", err)
		return nil, c.err
	}
	decl := model.SchemaDeclType(structural, c.parent == nil || c.schema.XEmbeddedResource)
	if decl == nil {
		c.err = errors.New("internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations")
		return nil, c.err
	}
	c.types = &ruleTypes{structural, decl}
	return c.types, nil
}

// ruled tells whether a part, or one above it, has rules.
func (c *costScope) ruled() bool {
	for ; c != nil; c = c.parent {
		if c.schema != nil && len(c.schema.XValidations) > 0 {
			return true
		}
	}
	return false
}

// of is what a rule costs in all places where its part occurs.
func (c *costScope) of(r cel.CompilationResult) uint64 {
	if c.most != nil {
		return saturatingProduct(r.MaxCost, *c.most)
	}
	return saturatingProduct(r.MaxCost, r.MaxCardinality)
}

func (c *costScope) checkTotal(e *check.Errors, path *field.Path) {
	if c == nil || c.total.sum <= maxSchemaCost {
		return
	}
	for _, rule := range c.total.worst {
		e.Forbidden(rule.path, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema")
	}
	e.Forbidden(path, tooExpensive("x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema", c.total.sum, maxSchemaCost))
}

// totalCost is what all rules of a schema cost, with those that cost most.
type totalCost struct {
	sum   uint64
	worst []ruleCost
}

type ruleCost struct {
	path *field.Path
	cost uint64
}

func (t *totalCost) add(path *field.Path, cost uint64) {
	sum, carry := bits.Add64(t.sum, cost, 0)
	if carry != 0 {
		sum = math.MaxUint64
	}
	t.sum = sum
	if cost < maxSchemaCost/100 {
		return
	}
	t.worst = append(t.worst, ruleCost{path, cost})
	slices.SortStableFunc(t.worst, func(a, b ruleCost) int { return cmp.Compare(b.cost, a.cost) })
	t.worst = t.worst[:min(len(t.worst), 4)]
}

// elements is how many values a value of the schema holds at most; nil is without bound.
func elements(s *apiextensions.JSONSchemaProps) *uint64 {
	bound := (*int64)(nil)
	switch {
	case s.Type == "object" && s.AdditionalProperties != nil:
		bound = s.MaxProperties
	case s.Type == "array":
		bound = s.MaxItems
	default:
		one := uint64(1)
		return &one
	}
	if bound == nil {
		return nil
	}
	n := uint64(max(*bound, 0))
	return &n
}

func saturatingProduct(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return math.MaxUint64
	}
	return low
}

func tooExpensive(what string, cost, limit uint64) string {
	factor := "more than 100x"
	switch times := float64(cost) / float64(limit); {
	case times < 1.5:
		factor = fmt.Sprintf("%fx", times)
	case times <= 100:
		factor = fmt.Sprintf("%.1fx", times)
	}
	return fmt.Sprintf("%s exceeds budget by factor of %s (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)", what, factor)
}
