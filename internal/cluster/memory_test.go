package cluster

import "testing"

func TestMemoryIsReturnedWhenALoadIsOver(t *testing.T) {
	const mb = 1 << 20
	for name, test := range map[string]struct {
		former, now memoryUse
		want        bool
	}{
		"under load":             {memoryUse{allocated: 0}, memoryUse{allocated: 100 * mb, live: 100 * mb, objects: 180 * mb, free: 90 * mb}, false},
		"garbage after a load":   {memoryUse{allocated: 100 * mb}, memoryUse{allocated: 101 * mb, live: 100 * mb, objects: 180 * mb}, true},
		"free after a load":      {memoryUse{allocated: 100 * mb}, memoryUse{allocated: 101 * mb, live: 100 * mb, objects: 100 * mb, free: 90 * mb}, true},
		"little beside the rest": {memoryUse{allocated: 100 * mb}, memoryUse{allocated: 101 * mb, live: 400 * mb, objects: 440 * mb, free: 60 * mb}, false},
		"idle":                   {memoryUse{allocated: 100 * mb}, memoryUse{allocated: 101 * mb, live: 30 * mb, objects: 45 * mb, free: 10 * mb}, false},
		"between objects":        {memoryUse{allocated: 100 * mb}, memoryUse{allocated: 101 * mb, live: 100 * mb, objects: 100 * mb, unused: 120 * mb}, true},
		"what stays":             {memoryUse{allocated: 100 * mb}, memoryUse{allocated: 101 * mb, live: 30 * mb, objects: 30 * mb, unused: 30 * mb}, false},
	} {
		if got := test.now.quiet(test.former) && test.now.returnable(20*mb); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestALoadThatLastsMayHaveMoreMemory(t *testing.T) {
	const mb = 1 << 20
	for name, test := range map[string]struct {
		allocated, live uint64
		looks           int
		want            int
	}{
		"idle":                  {2 * mb, 60 * mb, 200, 100},
		"a burst":               {60 * mb, 60 * mb, 3, 100},
		"a load on a small one": {60 * mb, 60 * mb, 4, 200},
		"a load on a large one": {200 * mb, 150 * mb, 2, 140},
		"a load on a huge one":  {200 * mb, 4000 * mb, 2, 100},
		"before any collection": {200 * mb, 0, 2, 100},
	} {
		var l load
		var former memoryUse
		got := 0
		for range test.looks {
			now := memoryUse{allocated: former.allocated + test.allocated, live: test.live}
			got, former = l.gcPercent(now, former), now
		}
		if got != test.want {
			t.Errorf("%s: %d", name, got)
		}
		if again := l.gcPercent(former, former); again != 100 {
			t.Errorf("%s: %d when it is over", name, again)
		}
	}
}
