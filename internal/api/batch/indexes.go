package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// An interval is a run of indexes, from first to last.
type interval struct{ first, last int32 }

// parseInterval reads "3" or "3-5", all below completions.
func parseInterval(text string, completions int32) (in interval, err error) {
	parts := strings.Split(text, "-")
	if len(parts) > 2 {
		return in, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	var limits [2]int32
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil {
			return in, fmt.Errorf("cannot convert string to integer for index: %q", part)
		}
		if n >= int(completions) {
			return in, fmt.Errorf("too large index: %q", part)
		}
		limits[i] = int32(n) // #nosec G109 -- below completions, and not below the least int32 for want of digits and of a sign
	}
	if len(parts) == 1 {
		return interval{limits[0], limits[0]}, nil
	}
	if limits[0] >= limits[1] {
		return in, fmt.Errorf("non-increasing order, previous: %d, current: %d", limits[0], limits[1])
	}
	return interval{limits[0], limits[1]}, nil
}

// countIndexes counts the indexes of a list of intervals such as "1,3-5", which must be in order.
func countIndexes(list string, completions int32) (total int32, err error) {
	if list == "" {
		return 0, nil
	}
	for i, last := 0, int32(0); list != ""; i++ {
		text, rest, more := strings.Cut(list, ",")
		in, err := parseInterval(text, completions)
		if err != nil {
			return 0, err
		}
		if i > 0 && last >= in.first {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, in.first)
		}
		total, last, list = total+in.last-in.first+1, in.last, rest
		if more && list == "" {
			_, err := parseInterval("", completions)
			return 0, err
		}
	}
	return total, nil
}

// overlap finds an index that two lists have in common. Intervals that aren't well-formed are passed over.
func overlap(a, b string, completions int32) (index int32, there bool) {
	as, bs := parseIntervals(a, completions), parseIntervals(b, completions)
	for len(as) > 0 && len(bs) > 0 {
		x, y := as[0], bs[0]
		if x.first <= y.last && y.first <= x.last {
			return max(x.first, y.first), true
		}
		if x.first <= y.first {
			as = as[1:]
		} else {
			bs = bs[1:]
		}
	}
	return 0, false
}

func parseIntervals(list string, completions int32) (out []interval) {
	for text := range strings.SplitSeq(list, ",") {
		if in, err := parseInterval(text, completions); err == nil {
			out = append(out, in)
		}
	}
	return out
}
