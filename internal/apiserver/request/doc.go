// Package request says what an HTTP request asks of the API, from its method, path and query alone: the verb,
// the resource, the namespace, the name. Authorization and dispatch go by it.
package request
