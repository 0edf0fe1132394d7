package apiserver

import "testing"

func TestABookmarkTellsMoreThanWhereTheWatchBegan(t *testing.T) {
	for _, c := range []struct {
		name             string
		base, sent, upTo int64
		want             bool
	}{
		{"nothing has happened since the named revision", 7, 0, 7, false},
		{"nothing has happened since the initial state", 7, 7, 7, false},
		{"others have changed", 7, 0, 8, true},
		{"the last event again", 7, 9, 9, true},
		{"the last bookmark again", 7, 8, 8, true},
		{"before the last event, which is still being applied", 7, 9, 8, false},
		{"before the named revision, which another server has reached", 7, 0, 6, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (&watchStream{base: c.base, sent: c.sent}).tells(c.upTo); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}
