package client

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// ViewIfServed opens a view of all objects of a kind, or an empty one when the kind isn't served.
func ViewIfServed[T Object](ctx context.Context, c Client, served []KindInfo, kind Kind[T]) (TypedView[T], error) {
	if !slices.ContainsFunc(served, func(k KindInfo) bool { return k.GroupVersionResource.GroupResource() == kind.GVR.GroupResource() }) {
		return TypedView[T]{emptyView{}}, nil
	}
	v, err := kind.View(ctx, c, Selection{})
	if err != nil {
		return v, fmt.Errorf("view %s: %w", kind.GVR.Resource, err)
	}
	return v, nil
}

// emptyView is the view of a kind that isn't served.
type emptyView struct{}

func (emptyView) Get(string, string) (Object, bool)     { return nil, false }
func (emptyView) List(string, labels.Selector) []Object { return nil }
func (emptyView) ByIndex(string, string) []Object       { return nil }
func (emptyView) Items(string, labels.Selector) []Item  { return nil }
func (emptyView) Revision() int64                       { return 0 }
func (emptyView) WaitFor(context.Context, int64) error  { return nil }
func (emptyView) Subscribe(ctx context.Context, _ func(Change)) error {
	<-ctx.Done()
	return ctx.Err()
}
