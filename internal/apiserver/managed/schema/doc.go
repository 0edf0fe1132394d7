// Package schema holds the types of the API as field management needs them: which fields there are, which lists are
// merged by which keys, what is atomic. They are made from the OpenAPI definitions when Clipper is built (see the
// generator of the package openapi) and kept in a compact form, which decodes in about a millisecond.
//
//	types, kinds, err := schema.BuiltIn()
//	parser := typed.Parser{Schema: *types} // kinds[gvk] names the type of an object
package schema
