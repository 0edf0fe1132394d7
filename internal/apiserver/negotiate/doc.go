// Package negotiate chooses how a request's body is read and how its response is written, from the Accept and
// Content-Type headers, as upstream does: JSON, YAML or protobuf, as the object itself, a Table or metadata alone.
package negotiate
