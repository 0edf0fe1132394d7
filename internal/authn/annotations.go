package authn

import "context"

// Notes take what there is to say about a request's credentials.
type Notes interface {
	// Annotate adds to the audit's record of the request.
	Annotate(key, value string)
	// Warn tells the client.
	Warn(text string)
}

type notesKey struct{}

// WithNotes lets what checks credentials annotate the audit's record of the request, and warn its client.
func WithNotes(ctx context.Context, n Notes) context.Context {
	return context.WithValue(ctx, notesKey{}, n)
}

func annotate(ctx context.Context, key, value string) {
	if n, ok := ctx.Value(notesKey{}).(Notes); ok {
		n.Annotate(key, value)
	}
}

func warn(ctx context.Context, text string) {
	if n, ok := ctx.Value(notesKey{}).(Notes); ok {
		n.Warn(text)
	}
}
