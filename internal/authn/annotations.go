package authn

import "context"

type annotateKey struct{}

// WithAnnotations lets what checks credentials annotate the audit's record of the request.
func WithAnnotations(ctx context.Context, annotate func(key, value string)) context.Context {
	return context.WithValue(ctx, annotateKey{}, annotate)
}

// annotate notes something for the audit, if there is one.
func annotate(ctx context.Context, key, value string) {
	if fn, ok := ctx.Value(annotateKey{}).(func(key, value string)); ok {
		fn(key, value)
	}
}
