// Package match decides which requests a webhook or a policy is about: by rules, by selectors of namespaces and objects, and by conditions.
//
// In flow requests and criteria; out flows the form in which the request matched. It also makes the input that expressions see of a request.
package match
