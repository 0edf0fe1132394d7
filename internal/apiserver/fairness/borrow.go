package fairness

import "math"

// smoothing is the decay of a level's remembered demand from one adjustment to the next: half in five minutes.
const smoothing = 0.977

// demand is how many seats a level could use.
type demand struct{ mean, deviation, peak, smoothed float64 }

// observe takes what the last period was like. The smoothed demand rises at once and falls slowly.
func (d *demand) observe(mean, deviation, peak float64, ok bool) {
	d.peak = math.Round(peak)
	if !ok {
		return
	}
	d.mean, d.deviation = mean, deviation
	envelope := mean + deviation
	d.smoothed = max(envelope, smoothing*d.smoothed+(1-smoothing)*envelope)
}

// adjust lets levels lend what they don't use, and reaps those that are gone.
func (c *Controller) adjust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	reaped := false
	for name, s := range c.levels {
		if s.retiring && s.idle() {
			delete(c.levels, name)
			reaped = true
		}
	}
	if reaped {
		c.share()
		return
	}
	c.borrow()
}

// borrow sets the levels' limits for the coming period, from their demand in the last one. c.mu is held.
//
// A limited level keeps as many seats as it used at most, up to its share; what the exempt levels use comes off the top. If that
// leaves too little, the limits stand between the levels' least and what they used. c.mu is held.
func (c *Controller) borrow() {
	var limited []*levelState
	var claims []claim
	remaining, least, used := c.nominal, 0, 0
	for _, s := range c.levels {
		s.observeDemand()
		floor := s.floor()
		if s.exempt() {
			remaining -= floor
			s.current, s.target = floor, float64(floor)
			continue
		}
		least += s.min
		used += floor
		limited = append(limited, s)
		claims = append(claims, claim{target: max(float64(floor), s.demand.smoothed), lower: float64(floor), upper: float64(s.max)})
	}
	c.fraction = 0
	var seats []float64
	if remaining > used {
		// As upstream does, the sum is all seats: what exempt levels use now is theirs on top.
		seats, c.fraction = allocate(float64(c.nominal), claims)
	}
	for i, s := range limited {
		s.target = claims[i].target
		switch {
		case remaining <= least:
			s.current = s.min
		case remaining <= used:
			part := float64(remaining-least) / float64(used-least)
			s.current = s.min + int(math.Round(float64(s.floor()-s.min)*part))
		default:
			s.current = int(math.Round(seats[i]))
		}
	}
	for _, s := range c.levels {
		denominator := float64(s.current)
		if s.current == 0 {
			denominator = max(1, math.Round(float64(c.cfg.Seats)/10))
		}
		s.setLimit(s.current, denominator)
	}
}

func (s *levelState) exempt() bool { return queuingOf(s.object).exempt }

func (s *levelState) observeDemand() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.demand.observe(s.level.demand.end(s.now()))
}

// floor is how many seats the level keeps whatever the others demand.
func (s *levelState) floor() int {
	peak := int(s.demand.peak)
	if !s.exempt() {
		peak = min(s.nominal, peak)
	}
	return max(s.min, peak)
}
