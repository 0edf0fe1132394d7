package allocation

import (
	"errors"
	"testing"
)

func TestPortsFollowWhatOtherServersGive(t *testing.T) {
	book := func() *portBook {
		b := newPortBook(30000, 30009)
		b.reset(nil)
		return &b
	}
	for _, c := range []struct {
		name  string
		steps func(b *portBook)
		free  bool
	}{
		{"another server gave the port", func(b *portBook) { b.observe(nil, []int32{30001}) }, false},
		{"another server took it back", func(b *portBook) { b.observe(nil, []int32{30001}); b.observe([]int32{30001}, nil) }, true},
		{"another server took back what this one gave", func(b *portBook) {
			b.take(30001)
			b.settle(30001, true)
			b.observe(nil, []int32{30001})
			b.observe([]int32{30001}, nil)
		}, true},
		{"this server took it back, which the view shows late", func(b *portBook) {
			b.take(30001)
			b.settle(30001, true)
			b.free([]int32{30001})
			b.observe(nil, []int32{30001})
		}, true},
		{"it was taken back and given again before the view showed either", func(b *portBook) {
			b.observe(nil, []int32{30001})
			b.free([]int32{30001})
			b.take(30001)
			b.settle(30001, true)
			b.observe([]int32{30001}, nil)
		}, false},
		{"a write is under way", func(b *portBook) { b.take(30001); b.reset(nil) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := book()
			c.steps(b)
			err := b.take(30001)
			if free := err == nil; free != c.free {
				t.Errorf("free: %v", free)
			}
			if err != nil && !errors.Is(err, errPortAllocated) {
				t.Error(err)
			}
		})
	}
}
