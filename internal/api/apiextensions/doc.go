// Package apiextensions holds the row of the group apiextensions.k8s.io: CustomResourceDefinition. What the definitions define is
// served by the engine's package crd.
//
// In flow definitions; out flow defaulted ones and field errors, those about schemas and their CEL rules included.
package apiextensions
