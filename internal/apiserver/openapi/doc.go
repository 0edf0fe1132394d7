// Package openapi serves the OpenAPI documents of the API, v2 and v3, with their descriptions.
package openapi
