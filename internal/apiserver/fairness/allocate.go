package fairness

import (
	"cmp"
	"slices"
)

// A claim is how many seats a level would like, and between which bounds.
type claim struct{ target, lower, upper float64 }

// leastTarget keeps every target positive.
const leastTarget = 0.001

// allocate divides a sum so that each claim gets the same fraction of its target, as far as the bounds allow, and returns that
// fraction too. A sum outside what the bounds allow gives each its nearest bound.
func allocate(sum float64, claims []claim) (seats []float64, fraction float64) {
	at := func(fraction float64) (total, slope float64) {
		for _, c := range claims {
			target := max(c.target, leastTarget)
			want := fraction * target
			total += min(max(want, c.lower), c.upper)
			if want >= c.lower && want < c.upper {
				slope += target
			}
		}
		return total, slope
	}
	fraction = solve(sum, claims, at)
	for _, c := range claims {
		seats = append(seats, min(max(fraction*max(c.target, leastTarget), c.lower), c.upper))
	}
	return seats, fraction
}

// solve finds the fraction at which the total reaches the sum. The total is a rising line with bends where a claim reaches a bound.
func solve(sum float64, claims []claim, at func(float64) (total, slope float64)) float64 {
	var bends []float64
	for _, c := range claims {
		target := max(c.target, leastTarget)
		bends = append(bends, c.lower/target, c.upper/target)
	}
	if len(bends) == 0 {
		return 0
	}
	slices.Sort(bends)
	// The first bend at or above the sum ends the piece of the line that crosses it.
	i, _ := slices.BinarySearchFunc(bends, sum, func(bend, sum float64) int {
		total, _ := at(bend)
		return cmp.Compare(total, sum)
	})
	switch i {
	case 0:
		return bends[0]
	case len(bends):
		return bends[len(bends)-1]
	}
	total, slope := at(bends[i-1])
	if slope == 0 {
		return bends[i]
	}
	return bends[i-1] + (sum-total)/slope
}
