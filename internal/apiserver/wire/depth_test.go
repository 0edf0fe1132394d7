package wire

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// nested is a message that holds itself n times, beside some bytes more.
func nested(n int, beside string) []byte {
	sizes := make([]int, n+1)
	for i := 1; i <= n; i++ {
		sizes[i] = sizes[i-1] + protowire.SizeTag(27) + protowire.SizeVarint(uint64(sizes[i-1]))
	}
	out := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), beside)
	for i := n; i > 0; i-- {
		out = protowire.AppendVarint(protowire.AppendTag(out, 27, protowire.BytesType), uint64(sizes[i-1]))
	}
	return out
}

func TestMessagesThatLieTooDeepAreFound(t *testing.T) {
	for _, c := range []struct {
		n    int
		deep bool
	}{{0, false}, {100, false}, {maxDepth - 10, false}, {maxDepth + 10, true}, {400_000, true}} {
		if got := TooDeep(nested(c.n, "a text that is beside it")); got != c.deep {
			t.Errorf("%d levels: got %v", c.n, got)
		}
	}
	raw, err := configMap("7").Marshal()
	if err != nil || TooDeep(raw) || TooDeep([]byte{0xff, 0xff}) {
		t.Error("an ordinary message is too deep")
	}
}
