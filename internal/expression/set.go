package expression

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// Has says which variables and types there are beside object, oldObject, request and namespaceObject.
type Has struct {
	Params     bool // params
	Authorizer bool // authorizer and authorizer.requestResource
	Patches    bool // Object{…}, JSONPatch{…} and jsonpatch.escapeKey
	Variables  bool // variables, even before one is declared
}

// Result types that Compile accepts.
var (
	Bool          = cel.BoolType
	String        = cel.StringType
	Null          = cel.NullType
	Any           = cel.AnyType
	ObjectPatch   = cel.ObjectType("Object")
	JSONPatchList = cel.ListType(cel.ObjectType("JSONPatch"))
)

// A Set compiles expressions that belong together: those compiled after a variable may use it as variables.<name>.
type Set struct {
	envs      *environment.EnvSet
	has       Has
	types     Types
	variables []variable
	declared  map[string]*apiservercel.DeclField
}

type variable struct {
	name string
	e    *Expression
}

var bases sync.Map // Has → *environment.EnvSet

// since marks what has always been there.
var since = version.MajorMinor(1, 0)

// Types are what objects and parameters are of; nil is any type.
type Types struct{ Object, Params *apiservercel.DeclType }

func celType(d *apiservercel.DeclType) *cel.Type {
	if d == nil {
		return cel.DynType
	}
	return d.CelType()
}

func base(has Has, types Types) (*environment.EnvSet, error) {
	untyped := types == Types{}
	if found, ok := bases.Load(has); ok && untyped {
		return found.(*environment.EnvSet), nil
	}
	declared := []*apiservercel.DeclType{namespaceType, requestType}
	for _, d := range []*apiservercel.DeclType{types.Object, types.Params} {
		if d != nil {
			declared = append(declared, d)
		}
	}
	options := []cel.EnvOption{
		cel.Variable("object", celType(types.Object)), cel.Variable("oldObject", celType(types.Object)),
		cel.Variable("request", requestType.CelType()), cel.Variable("namespaceObject", namespaceType.CelType()),
	}
	if has.Params {
		options = append(options, cel.Variable("params", celType(types.Params)))
	}
	if has.Authorizer {
		options = append(options, cel.Variable("authorizer", library.AuthorizerType), cel.Variable("authorizer.requestResource", library.ResourceCheckType))
	}
	out, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: since, EnvOptions: options, DeclTypes: declared,
	}, environment.StrictCostOpt)
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	if untyped {
		bases.Store(has, out)
	}
	return out, nil
}

// patches is added last: declared types would hide its own.
var patches = environment.VersionedOptions{IntroducedVersion: since, EnvOptions: []cel.EnvOption{
	common.ResolverEnvOption(&mutation.DynamicTypeResolver{}), environment.UnversionedLib(library.JSONPatch),
}}

// build makes the environment of a set with variables.
func build(has Has, types Types, variables map[string]*apiservercel.DeclField) (*environment.EnvSet, error) {
	envs, err := base(Has{Params: has.Params, Authorizer: has.Authorizer}, types)
	if err == nil && (has.Variables || len(variables) > 0) {
		typ := apiservercel.NewObjectType(variablesType, maps.Clone(variables))
		envs, err = envs.Extend(environment.VersionedOptions{
			IntroducedVersion: since, EnvOptions: []cel.EnvOption{cel.Variable("variables", typ.CelType())}, DeclTypes: []*apiservercel.DeclType{typ},
		})
	}
	if err == nil && has.Patches {
		envs, err = envs.Extend(patches)
	}
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	return envs, nil
}

// NewSet returns a set without variables.
func NewSet(has Has) (*Set, error) { return NewTypedSet(has, Types{}) }

// NewTypedSet returns a set without variables whose expressions must fit types. It is for finding errors: what it compiles isn't evaluated.
func NewTypedSet(has Has, types Types) (*Set, error) {
	declared := map[string]*apiservercel.DeclField{}
	envs, err := build(has, types, declared)
	return &Set{envs: envs, has: has, types: types, declared: declared}, err
}

// WithoutAuthorizer is the same set, variables included, for expressions that may not ask for permissions themselves: those of messages.
func (s *Set) WithoutAuthorizer() (*Set, error) {
	out := *s
	out.has.Authorizer = false
	envs, err := build(out.has, out.types, out.declared)
	out.envs, out.declared = envs, maps.Clone(s.declared)
	return &out, err
}

const variablesType = "kubernetes.variables"

// Declare compiles a variable and makes it known to what is compiled later; one that doesn't compile is known as one of any type.
func (s *Set) Declare(name, text string) error {
	e, err := s.Compile(text, Any)
	typ := apiservercel.DynType
	if err == nil {
		s.variables = append(slices.Clip(s.variables), variable{name, e})
		typ = declOf(e.output)
	}
	s.declared[name] = apiservercel.NewDeclField(name, typ, true, nil, nil)
	envs, buildErr := build(s.has, s.types, s.declared)
	if buildErr != nil {
		return errors.Join(err, buildErr)
	}
	s.envs = envs
	return err
}

// declOf keeps what a variable's type says as far as declarations can.
func declOf(t *cel.Type) *apiservercel.DeclType {
	switch t.Kind() {
	case cel.BoolKind:
		return apiservercel.BoolType
	case cel.IntKind:
		return apiservercel.IntType
	case cel.DoubleKind:
		return apiservercel.DoubleType
	case cel.StringKind:
		return apiservercel.StringType
	case cel.BytesKind:
		return apiservercel.BytesType
	case cel.DurationKind:
		return apiservercel.DurationType
	case cel.TimestampKind:
		return apiservercel.TimestampType
	case cel.ListKind:
		return apiservercel.NewListType(declOf(t.Parameters()[0]), -1)
	case cel.MapKind:
		return apiservercel.NewMapType(declOf(t.Parameters()[0]), declOf(t.Parameters()[1]), -1)
	}
	return apiservercel.DynType
}

// An Expression is compiled. It may be evaluated concurrently.
type Expression struct {
	program   cel.Program
	output    *cel.Type
	variables []variable
}

// Compile compiles an expression that must give one of the types. Its errors are worded as upstream words them.
func (s *Set) Compile(text string, results ...*cel.Type) (*Expression, error) {
	defer observe(compilations, time.Now())
	env := s.envs.StoredExpressionsEnv()
	ast, issues := env.Compile(text)
	if issues != nil {
		return nil, fmt.Errorf("compilation failed: %s", issues.String())
	}
	fits := slices.ContainsFunc(results, func(t *cel.Type) bool { return t.IsExactType(cel.AnyType) || ast.OutputType().IsExactType(t) })
	if !fits && len(results) == 1 {
		return nil, fmt.Errorf("must evaluate to %v but got %v", results[0].String(), ast.OutputType().String())
	}
	if !fits {
		return nil, fmt.Errorf("must evaluate to one of %v but got %v", results, ast.OutputType().String())
	}
	program, err := env.Program(ast, cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	if err != nil {
		return nil, fmt.Errorf("program instantiation failed: %w", err)
	}
	return &Expression{program: program, output: ast.OutputType(), variables: s.variables}, nil
}
