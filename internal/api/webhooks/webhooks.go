package webhooks

import (
	"crypto/x509"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

const form = "; desired format: https://host[/path]"

// Bundle checks a bundle of PEM certificates.
func Bundle(path *field.Path, bundle []byte) (e check.Errors) {
	if !x509.NewCertPool().AppendCertsFromPEM(bundle) {
		e.Invalid(path, bundle, "unable to load root certificates: unable to parse bytes as PEM block")
	}
	return e
}

// URL checks the address of a webhook.
func URL(path *field.Path, text string) (e check.Errors) {
	u, err := url.Parse(text)
	if err != nil {
		e.Required(path, "url must be a valid URL: "+err.Error()+form)
		return e
	}
	if u.Scheme != "https" {
		e.Invalid(path, u.Scheme, "'https' is the only allowed URL scheme"+form)
	}
	if u.Host == "" {
		e.Invalid(path, u.Host, "host must be specified"+form)
	}
	if u.User != nil {
		e.Invalid(path, u.User.String(), "user information is not permitted in the URL")
	}
	if u.Fragment != "" {
		e.Invalid(path, u.Fragment, "fragments are not permitted in the URL")
	}
	if u.RawQuery != "" {
		e.Invalid(path, u.RawQuery, "query parameters are not permitted in the URL")
	}
	return e
}

// Service checks a reference to the Service in front of a webhook.
func Service(path *field.Path, namespace, name string, urlPath *string, port int32) (e check.Errors) {
	e.NonEmpty(path.Child("name"), name)
	e.NonEmpty(path.Child("namespace"), namespace)
	if errs := validation.IsValidPortNum(int(port)); errs != nil {
		e.Invalid(path.Child("port"), port, "port is not valid: "+strings.Join(errs, ", "))
	}
	if urlPath != nil {
		checkPath(&e, path.Child("path"), *urlPath)
	}
	return e
}

func checkPath(e *check.Errors, path *field.Path, text string) {
	switch text {
	case "", "/":
		return
	case "//":
		e.Invalid(path, text, "segment[0] may not be empty")
		return
	}
	if !strings.HasPrefix(text, "/") {
		e.Invalid(path, text, "must start with a '/'")
	}
	for i, segment := range strings.Split(strings.TrimSuffix(text[1:], "/"), "/") {
		if segment == "" {
			e.Invalidf(path, text, "segment[%d] may not be empty", i)
			continue
		}
		for _, problem := range validation.IsDNS1123Subdomain(segment) {
			e.Invalidf(path, text, "segment[%d]: %v", i, problem)
		}
	}
}
