package node

import (
	"context"

	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
)

// empty is the view of a kind that isn't served.
type empty struct{}

var _ client.View = empty{}

func (empty) Get(string, string) (client.Object, bool)     { return nil, false }
func (empty) List(string, labels.Selector) []client.Object { return nil }
func (empty) ByIndex(string, string) []client.Object       { return nil }
func (empty) Items(string, labels.Selector) []client.Item  { return nil }
func (empty) Revision() int64                              { return 0 }
func (empty) WaitFor(context.Context, int64) error         { return nil }
func (empty) Subscribe(ctx context.Context, _ func(client.Change)) error {
	<-ctx.Done()
	return ctx.Err()
}
